#!/usr/bin/env bash
# The long checks of the kernels, some ten minutes on two idle cores:
#
#     kernels/check.sh [SECTION…]
#
#     plain        the C drivers in tests/
#     emulated     the same for AVX-512 BF16 and AMX, which AVX-512 emulates; as it does in address, thread and python
#     address      the same under AddressSanitizer and UndefinedBehaviorSanitizer
#     thread       the same under ThreadSanitizer
#     qemu         the same on emulated processors: x86-64 without AVX, with AVX2, and aarch64
#     python       the Python tests of the extension under AddressSanitizer and UndefinedBehaviorSanitizer
#     activations  every float32 number, and a sample of float64: an hour and more by itself
#
# CC chooses the compiler, PYTHON a Python that has what the tests need. A section whose tools are missing says so.
set -euo pipefail
cd "$(dirname "$0")/.."

repository=$PWD
export CC=${CC:-gcc} PYTHON=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" # all paths from here on are relative, and without spaces
ln -s "$repository/kernels" kernels

section() {
    printf '\n=== %s (%d s) ===\n' "$1" "$SECONDS"
}

# Whether there are these commands.
have() {
    local name
    for name; do
        command -v "$name" > /dev/null || { echo "skipped: there is no $name"; return 1; }
    done
}

# Execute the lines of standard input, as many at a time as there are cores; fails if one does.
together() {
    xargs -d '\n' -P "$(nproc)" -n 1 bash -c
}

# Set flags_portable, flags_avx2, … as the build does.
eval "$(sed -nE 's/^ *set\((flags_[a-z0-9_]+) (""|(.*))\)$/\1="\3"/p' kernels/CMakeLists.txt)"

# What a compiler's processor has kernels for.
isas_of() {
    case $("$1" -dumpmachine) in
        x86_64*) echo portable avx2 avx512 avx512_bf16 amx ;;
        *) echo portable ;;
    esac
}

# kernels_of COMPILER FOLDER COMMAND: the commands that compile isa/kernels.c for each ISA and dtype. What multiplies
# bfloat16 has no float64.
kernels_of() {
    local isa double
    for isa in $(isas_of "$1"); do
        local flags=flags_$isa doubles="0 1"
        [[ $isa == *bf16 || $isa == amx ]] && doubles=0
        for double in $doubles; do
            echo "$3 ${!flags} -DBRISK_ISA=$isa -DBRISK_DOUBLE=$double -c kernels/isa/kernels.c -o $2/isa_${isa}_$double.o"
        done
    done
}

# Those of this compiler's ISAs that can run here.
runnable() {
    cat > runnable.c << 'END'
#include "kernels/brisk.h"
#include <stdio.h>
int main(void) {
    for (int isa = 0; isa <= BRISK_AVX512; isa++) /* the others have the same activations */
        if (brisk_isas_can_run() & 1u << isa)
            puts(brisk_isa_names[isa]);
}
END
    "$CC" -std=c11 runnable.c kernels/runtime/cpu.c -o runnable
    ./runnable
}

# build FOLDER COMPILER FLAG…: the kernels and their drivers.
build() {
    local folder=$1 compiler=$2 name
    local compile="$compiler -std=c11 -ffp-contract=off -Wall -Wextra -Wconversion -Werror -pthread ${*:3}"
    mkdir "$folder"
    {
        for name in runtime/{cpu,epoch,layout,limits,pool,profile,schedule,tables} tests/{pool,schedule,train}_test; do
            echo "$compile -c kernels/$name.c -o $folder/${name#*/}.o"
        done
        kernels_of "$compiler" "$folder" "$compile"
    } | together
    $compile "$folder"/pool{_test,}.o -o "$folder/pool_test"
    $compile "$folder"/{schedule_test,layout,profile,schedule}.o -lm -o "$folder/schedule_test"
    $compile "$folder"/{train_test,cpu,epoch,layout,limits,pool,profile,schedule,tables}.o "$folder"/isa_*.o -lm -o "$folder/train_test"
}

check_plain() {
    build plain "$CC" -O3
    plain/pool_test
    plain/schedule_test
    plain/train_test
}

# Have what builds on AVX-512 emulated, where that can run: see CMakeLists.txt.
emulate_more() {
    runnable | grep -x avx512 > /dev/null || { echo "AVX-512, with which to emulate, cannot run here"; return 1; }
    flags_avx512_bf16=$flags_avx512 flags_amx=$flags_avx512 emulation=-DBRISK_EMULATED=1
}

check_emulated() (
    emulate_more || return 0
    build emulated "$CC" -O3 $emulation
    emulated/train_test only avx512_bf16 amx
)

SANITIZERS="-g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer"

check_address() (
    emulate_more || emulation=
    build address "$CC" -O2 $SANITIZERS $emulation
    export ASAN_OPTIONS=allocator_may_return_null=1
    address/pool_test
    address/schedule_test
    address/train_test quick
)

check_thread() (
    emulate_more || emulation=
    build thread "$CC" -O2 -g -fsanitize=thread $emulation
    thread/pool_test
    thread/train_test quick
)

# emulate FOLDER ISA EMULATOR ARGUMENT…: run the drivers, which must choose ISA.
emulate() {
    "${@:3}" "$1/pool_test" nofork
    "${@:3}" "$1/train_test" quick "$2"
    echo "${*:3}: $2"
}

check_qemu() {
    if [[ $("$CC" -dumpmachine) == x86_64-linux* ]] && have qemu-x86_64; then
        build x86_64 "$CC" -O2 -static
        emulate x86_64 portable qemu-x86_64 -cpu qemu64
        emulate x86_64 portable qemu-x86_64 -cpu core2duo
        emulate x86_64 portable qemu-x86_64 -cpu Nehalem
        # less what qemu cannot emulate and would warn about
        emulate x86_64 avx2 qemu-x86_64 -cpu Haswell,-pcid,-x2apic,-tsc-deadline,-hle,-invpcid,-rtm
    fi
    if have aarch64-linux-gnu-gcc qemu-aarch64; then
        build aarch64 aarch64-linux-gnu-gcc -O2 -static
        emulate aarch64 portable qemu-aarch64
    fi
}

check_python() (
    emulate_more || emulation=
    have "$PYTHON" && "$PYTHON" -c 'import hypothesis, numpy, pytest' || { echo "skipped: no pytest"; return 0; }
    local version name
    version=$(sed -nE 's/^version = "([^"]+)".*/\1/p' "$repository/pyproject.toml")
    mkdir -p objects site/briskmlp.dist-info
    cp -r "$repository/src/briskmlp" site/
    rm -f site/briskmlp/_native.*so
    printf 'Metadata-Version: 2.1\nName: briskmlp\nVersion: %s\n' "$version" > site/briskmlp.dist-info/METADATA

    local compile="$CC -std=c11 -ffp-contract=off -fPIC -fvisibility=hidden -pthread -O2 $SANITIZERS $emulation"
    local include="-isystem $("$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("include"))')"
    include+=" -DPy_LIMITED_API=0x030b0000 '-DBRISKMLP_VERSION=\"$version\"' '-DBRISKMLP_COMPILER=\"$CC\"'"
    {
        for name in python/{arguments,calls,module,workspaces} runtime/{cpu,epoch,layout,limits,pool,profile,schedule,tables}; do
            echo "$compile $include -c kernels/$name.c -o objects/${name#*/}.o"
        done
        kernels_of "$CC" objects "$compile"
    } | together
    $compile -shared objects/*.o -lm -o site/briskmlp/_native.abi3.so

    # Python and its libraries free little at exit: leaks are looked for in the C drivers alone.
    local sanitized=(
        env PYTHONPATH="$work/site" PYTHONDONTWRITEBYTECODE=1 PYTHONMALLOC=malloc
        LD_PRELOAD="$("$CC" -print-file-name=libasan.so)" ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1
        "$PYTHON"
    )
    cd "$repository"
    "${sanitized[@]}" -c "import briskmlp._native as it; assert it.__file__.startswith('$work'), it.__file__"
    "${sanitized[@]}" -m pytest -q -p no:cacheprovider -k native \
        tests/test_native.py tests/test_backends.py tests/test_precision.py
)

check_activations() {
    local isa double name flags
    mkdir activations
    for isa in $(runnable); do
        flags=flags_$isa
        for double in 0 1; do
            $CC -std=c11 -O3 -ffp-contract=off -Wall -Wextra -Wconversion -Werror ${!flags} \
                -DBRISK_ISA=$isa -DBRISK_DOUBLE=$double \
                kernels/tests/activations_test.c -lm -o activations/${isa}_$double
        done
    done
    for name in $(activations/portable_0); do
        for isa in $(ls activations); do
            echo "nice activations/$isa $name"
        done
    done | together
}

if [[ $# == 0 ]]; then
    set -- plain emulated address thread qemu python activations
fi
for name; do
    if [[ $(type -t "check_$name") != function ]]; then
        echo "check.sh: no section is called $name" >&2
        exit 2
    fi
done
for name; do
    section "$name"
    "check_$name"
done
section "All passed"
