"""The C extension: what it reports of the processor, what it refuses, and that threads and failures change nothing."""

import ctypes
import itertools
import os
import pickle
import platform
import re
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
import threadpoolctl
from build import build
from tasks import data, everything, make, run_script

import briskmlp
from briskmlp import SGD, Adam, Trainer
from briskmlp.backends import native
from briskmlp.backends.contract import Examples, Steps
from briskmlp.operations.activations import ACTIVATIONS
from briskmlp.operations.rules import RULES
from briskmlp.plan import BFLOAT16, HIGH, HIGHEST, PRECISIONS

NAMES = ("portable", "avx2", "avx512", "avx512_bf16", "amx")
WHOLE = [name for name in native.isas() if name in NAMES[:3]]  # compute in the highest precision

# The kernel lists a flag only where it also saves the registers that go with it.
FLAGS = {
    "portable": set(),
    "avx2": {"avx", "avx2", "fma"},
    "avx512": {"avx512f", "avx512bw", "avx512dq", "avx512vl"},
    "avx512_bf16": {"avx512_bf16"},
    "amx": {"amx_tile", "amx_bf16"},
}

pytestmark = pytest.mark.skipif(native.reason() is not None, reason=str(native.reason()))


@pytest.fixture
def extension():
    """Return the extension; its hooks for tests are put back."""
    from briskmlp import _native

    yield _native
    _native._fail_allocation(0)
    _native._force_threads(0)


@pytest.fixture(params=WHOLE)
def isa(request, monkeypatch):
    """Return each instruction set that can run here in the highest precision, in turn, and ask for it."""
    monkeypatch.setenv("BRISKMLP_ISA", request.param)
    return request.param


# --- what can run ----------------------------------------------------------------------------------------------------


def kernel_flags():
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((set(line.split()) for line in lines if line.startswith("flags")), None)


@pytest.fixture
def load_from(monkeypatch, tmp_path):
    """Return a function that loads a fresh copy of the module, which looks for the extension in ``tmp_path``."""

    def load():
        monkeypatch.delitem(briskmlp.__dict__, "_native", raising=False)
        monkeypatch.delitem(sys.modules, "briskmlp._native", raising=False)
        monkeypatch.setattr(briskmlp, "__path__", [str(tmp_path)])
        spec = spec_from_file_location("native_copy", native.__file__)
        copy = module_from_spec(spec)
        spec.loader.exec_module(copy)
        return copy

    return load


def test_isas_are_nested_and_begin_with_portable():
    assert native.isas() == NAMES[: len(native.isas())] != ()


@pytest.mark.skipif(kernel_flags() is None, reason="no processor flags in /proc/cpuinfo")
def test_isas_agree_with_the_kernel(extension):
    if extension.emulated:
        pytest.skip("this build emulates what the processor lacks")
    wanted, expected = set(), []
    for name in NAMES:
        wanted |= FLAGS[name]
        if wanted <= kernel_flags():
            expected.append(name)
    assert native.isas() == tuple(expected)


def test_the_best_isa_is_the_fastest_for_the_precision(extension, monkeypatch):
    monkeypatch.delenv("BRISKMLP_ISA", raising=False)
    assert extension.best_isa(HIGHEST) == native.isa() == WHOLE[-1]
    rounded = [name for name in native.isas() if name != "amx"][-1]
    for precision in (HIGH, BFLOAT16):
        assert extension.best_isa(precision) == native.isa(precision) == rounded
    for precision in (-1, 3):
        with pytest.raises(ValueError, match=f"precision is {precision}, which is not in 0 to 2"):
            extension.best_isa(precision)


@pytest.mark.skipif("avx512_bf16" not in native.isas(), reason="this processor has no AVX512_BF16")
def test_what_multiplies_bfloat16_alone_is_refused_in_the_highest_precision(extension, monkeypatch):
    monkeypatch.setenv("BRISKMLP_ISA", "avx512_bf16")
    message = (
        "BRISKMLP_ISA=avx512_bf16 cannot be honoured: avx512_bf16 multiplies bfloat16 alone, for precision='bfloat16'"
    )
    with pytest.raises(ValueError, match=message):
        Trainer([3, 2])
    with pytest.raises(ValueError, match="needs dtype='float32'"):
        Trainer([3, 2], precision="bfloat16", dtype="float64")
    plan = build([3, 4, 2]).plan
    with pytest.raises(ValueError, match="'avx512_bf16' multiplies bfloat16 alone, not in the highest precision"):
        extension.workspace(plan, 4, "avx512_bf16", 10, True, 1)
    assert Trainer([3, 2], precision="bfloat16").isa == "avx512_bf16"


SMALL_SIGNAL_STACK = """
import ctypes

class Stack(ctypes.Structure):
    _fields_ = [("memory", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]

memory = ctypes.create_string_buffer(8192)  # tiles alone take as much
assert ctypes.CDLL(None).sigaltstack(ctypes.byref(Stack(ctypes.addressof(memory), 0, len(memory))), None) == 0

from briskmlp import Trainer
try:
    Trainer([3, 2])
except ValueError as error:
    print(error)
"""


@pytest.mark.skipif("amx" not in native.isas(), reason="this processor has no AMX")
def test_tiles_are_refused_where_a_signal_stack_is_too_small_for_them(extension):
    if extension.emulated:
        pytest.skip("this build emulates tiles, for which the operating system is not asked")
    output = run_script(SMALL_SIGNAL_STACK, BRISKMLP_ISA="amx")
    assert "the operating system refuses the tiles of amx to this process" in output


def test_extension_and_package_have_one_version(extension):
    assert extension.version == version("briskmlp")
    assert extension.compiler


def test_a_missing_extension_is_explained(load_from):
    copy = load_from()
    assert copy.isas() == ()
    assert "no working C compiler" in copy.reason()
    assert "BRISKMLP_REQUIRE_NATIVE=1" in copy.reason()
    assert copy.unavailable() == copy.reason()


def test_a_broken_extension_is_explained_in_the_loaders_words(load_from, tmp_path):
    (tmp_path / "_native.abi3.so").write_bytes(b"not a library")
    copy = load_from()
    assert copy.isas() == ()
    assert "failed to load" in copy.reason()
    assert "_native.abi3.so" in copy.reason()


SUBINTERPRETER = """
import sys
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_loader
try:
    import _interpreters as interpreters  # from Python 3.13 on
    new = lambda: interpreters.create("legacy")
except ImportError:
    import _xxsubinterpreters as interpreters
    new = lambda: interpreters.create(isolated=False)

load = '''
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_loader
loader = ExtensionFileLoader("briskmlp._native", %r)
spec = spec_from_loader("briskmlp._native", loader)
try:
    loader.exec_module(module_from_spec(spec))
except ImportError as error:
    print(error)
else:
    print("loaded")
''' % sys.argv[1]
exec(load)
exec(load)
sys.stdout.flush()
interpreters.run_string(new(), load + "import sys; sys.stdout.flush()")
"""


def test_another_interpreter_of_the_process_is_refused(extension):
    refused = "briskmlp._native is loaded in another interpreter of this process"
    assert run_script(SUBINTERPRETER, extension.__file__).splitlines() == ["loaded", "loaded", refused]


@pytest.mark.skipif(shutil.which("nm") is None, reason="no nm")
def test_nothing_is_exported_that_another_library_could_take_for_its_own(extension):
    path = Path(extension.__file__)
    if path.read_bytes()[:4] != b"\x7fELF":
        pytest.skip("not an ELF library")
    listed = subprocess.run(["nm", "-D", "--defined-only", path], capture_output=True, text=True, check=True).stdout
    hooks = {"brisk_get_num_threads", "brisk_set_num_threads"}
    assert {line.split()[-1] for line in listed.splitlines()} - {"_init", "_fini"} == {"PyInit__native", *hooks}


KERNELS = Path(__file__).parents[1] / "kernels"


@pytest.mark.skipif(shutil.which("cc") is None or not KERNELS.is_dir(), reason="no cc, or no sources")
@pytest.mark.parametrize("name", NAMES)
def test_each_object_of_kernels_exports_its_table_alone(name):
    """Whatever else it shared could be linked in from the object of an ISA that this processor does not have.

    What several objects define, the linker refuses; what one defines has no prototype.
    """
    if name != "portable" and platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip(f"{name} is for x86-64")
    flags = dict(re.findall(r'set\(flags_(\w+) "?(.*?)"?\)', (KERNELS / "CMakeLists.txt").read_text()))
    own = flags[name]
    while used := re.search(r"\$\{flags_(\w+)\}", own):
        own = own.replace(used[0], flags[used[1]])
    checks = ["-fsyntax-only", "-Wmissing-prototypes", "-Werror", f"-DBRISK_ISA={name}", "-DBRISK_DOUBLE=0"]
    subprocess.run(["cc", "-std=c11", *own.split(), *checks, KERNELS / "isa/kernels.c"], check=True, timeout=200)


# --- what is run -----------------------------------------------------------------------------------------------------


def workspace_of(trainer):
    """ISA, threads and bytes of what a trainer trains in."""
    return briskmlp._native.describe(trainer._session._workspace(100))


def test_the_instruction_set_asked_for_is_taken(extension, isa, dtype):
    case = build([3, 4, 2], dtype=dtype)
    assert extension.describe(native.workspace(case.plan, dtype, case.n))[0] == isa
    assert Trainer([3, 4, 2], dtype=dtype).isa == isa


def test_the_instruction_set_stays_that_of_the_construction(extension, monkeypatch):
    monkeypatch.setenv("BRISKMLP_ISA", "portable")
    trainer, described = make("mse", backend="native"), []
    monkeypatch.setenv("BRISKMLP_ISA", WHOLE[-1] if len(WHOLE) > 1 else "avx2")

    def workspace(*arguments, run=extension.workspace):
        described.append(extension.describe(work := run(*arguments))[0])
        return work

    monkeypatch.setattr(extension, "workspace", workspace)
    X, Y, _ = data("mse", 100)
    trainer.fit(X, Y, epochs=1)
    trainer.predict(X)
    trainer.evaluate(X, Y)
    assert trainer.explain().startswith("backend: native with portable\n")
    assert (trainer.isa, set(described), workspace_of(trainer)[0]) == ("portable", {"portable"}, "portable")
    monkeypatch.delenv("BRISKMLP_ISA")
    loaded = pickle.loads(pickle.dumps(trainer))  # chooses anew
    assert loaded.isa == workspace_of(loaded)[0] == extension.best_isa(HIGHEST)


def test_kernels_that_are_not_there_are_refused(extension):
    plan = build([3, 4, 2]).plan
    for isa, size in (("amx", 8), ("avx3", 4), ("avx512_bf16", 8), ("portable", 2), ("portable", 16)):
        with pytest.raises(
            ValueError, match=f"no kernels of ISA '{isa}' for numbers of {size} bytes that can run here"
        ):
            extension.workspace(plan, size, isa, 10, True, 1)


# Layers, rows, batch size: the kinds of bench/workloads.py, with the last batch short; the last four are shared by a
# team, the others sliced or too small. Of few rows the team divides panels that do not divide evenly.
SHAPES = {
    "xor": ([2, 2, 1], 4, 4),
    "nielsen": ([784, 30, 10], 95, 10),
    "digits": ([64, 100, 10], 500, 200),
    "simplechains": ([4, 32, 16, 4], 1500, 1000),
    "mid": ([784, 256, 10], 200, 128),
    "deep": ([196, 160, 160, 10], 300, 170),
    "wide": ([128, 256, 256, 128], 600, 400),
    "few": ([300, 100, 100, 10], 75, 16),
}


def learn(shape, optimizer, **arguments):
    """Train 3 epochs; return the bits of all that comes out."""
    layers, n, batch_size = SHAPES[shape]
    rng = np.random.default_rng(0)
    X, Y, weight = rng.normal(size=(n, layers[0])), rng.uniform(size=(n, layers[-1])), rng.uniform(0.5, 1.5, size=n)
    trainer = Trainer(layers, optimizer=optimizer, l2=0.01, batch_size=batch_size, seed=0, **arguments)
    losses = trainer.fit(X, Y, epochs=3, sample_weight=weight).loss
    E, gradient = trainer.loss_and_gradient(X, Y)
    return everything(trainer), losses, trainer.predict(X).tobytes(), trainer.evaluate(X, Y), E, gradient.flat.tobytes()


@pytest.fixture
def same_for(extension):
    """Return what runs a function with each of these numbers of threads, and returns what it gives each time."""

    def same_for(threads, run):
        results = []
        for number in threads:
            extension._force_threads(number)
            results.append(run())
        assert results[1:] == results[:1] * (len(threads) - 1)
        return results[0]

    return same_for


# each shape with one optimizer; either has shapes that a team shares, and others
every_shape = pytest.mark.parametrize(
    ("shape", "optimizer"), [*zip(SHAPES, itertools.cycle([SGD(0.01), Adam(0.001)]))], ids=list(SHAPES)
)


@every_shape
def test_any_number_of_threads_gives_the_same_bits(same_for, isa, dtype, shape, optimizer):
    same_for((1, 2, 3, 7), lambda: learn(shape, optimizer, dtype=dtype))


@pytest.mark.parametrize("shape", SHAPES)
def test_dropout_and_clipping_give_the_same_bits(same_for, isa, dtype, shape):
    """For any number of threads; in one call or cut; in the order drawn by the kernels or given."""
    layers, n, batch_size = SHAPES[shape]
    case = build(
        layers, dtype=dtype, n=n, batch_size=batch_size, weighted=True, l2=0.01, optimizer=SGD(0.1),
        dropout=[0.5, 0.25][: len(layers) - 2], clip_norm=0.01,
    )  # fmt: skip

    def bits(**options):
        return [part.tobytes() for part in case.train(native, [0.01, 0.001], **options)]

    assert same_for((1, 2, 3), bits) == bits(steps=1, order="given")


@pytest.mark.parametrize("shape", SHAPES)
def test_hyperparameters_of_each_step_reach_every_thread(same_for, isa, dtype, shape):
    layers, n, batch_size = SHAPES[shape]
    case = build(layers, dtype=dtype, n=n, batch_size=batch_size, optimizer=Adam(0.1))
    per_step = np.column_stack([np.full(20, 0.01), np.linspace(0.5, 0.9, 20), np.tile(case.plan.hyper[1:], (20, 1))])

    def bits():
        state, work = case.start(), native.workspace(case.plan, case.dtype, case.n, threads=3)
        steps = Steps(np.full(20, np.nan), np.empty(20), 20, per_step=per_step)
        assert native.train(work, state, case.examples, steps) is None
        return state.parameters.tobytes()

    same_for((1, 2, 3), bits)


@pytest.mark.parametrize(
    ("isa", "precision"),
    [pair for pair in itertools.product(native.isas(), PRECISIONS) if pair[0] == "amx" or pair[1] != "highest"],
)
@every_shape
def test_precisions_give_the_same_bits(same_for, monkeypatch, isa, shape, precision, optimizer):
    monkeypatch.setenv("BRISKMLP_ISA", isa)
    dropout = 0.25 * (SHAPES[shape][1] > 400)
    same_for((1, 3), lambda: learn(shape, optimizer, precision=precision, dropout=dropout))


@pytest.mark.parametrize("n_units", [1, 15, 70])
def test_masks_are_those_of_philox_however_units_are_divided(extension, isa, dtype, n_units):
    """16 units share a block of random numbers; panels have 4 to 32, and a thread has some of these.

    After a step from one example the weights that read a unit have moved if, and only if, the unit was kept.
    """
    case = build([3, n_units, 2], dtype=dtype, n=6, batch_size=1, bias="none", shuffle=False, dropout=[0.5], seed=9)
    for threads in (1, 3):
        extension._force_threads(threads)
        work, state = native.workspace(case.plan, dtype, case.n), case.start()
        params = state.parameters
        for epoch in range(2):
            for place in range(case.n):
                before = params.copy()
                assert native.train(work, state, case.examples, Steps(np.ones(1), np.empty(1), 1)) is None
                moved = case.network.weights(params)[1] != case.network.weights(before)[1]
                philox = np.random.Philox(key=[9, epoch], counter=[0, place, 0, 2])
                numbers = philox.random_raw(4 * -(-n_units // 16)).astype("<u8").view("<u2")[:n_units]
                np.testing.assert_array_equal(moved.any(axis=1), numbers >= 2**15)


def test_a_kept_zero_is_not_taken_for_a_dropped_one(isa, dtype):
    """The kernels mark dropped units by -0, which A may also be of itself: here 0 · -1 + -0."""
    case = build([1, 40, 1], hidden="identity", dtype=dtype, n=1, batch_size=1, dropout=[0.5], seed=9)
    params = case.params.copy()
    case.network.weights(params)[0][:], case.network.biases(params)[0][:] = -1.0, -0.0
    work, examples = native.workspace(case.plan, dtype, 1), Examples(np.zeros_like(case.X), case.Y)
    assert native.train(work, case.start(params), examples, Steps(np.ones(1), np.empty(1), 1)) is None
    numbers = np.random.Philox(key=[9, 0], counter=[0, 0, 0, 2]).random_raw(12).astype("<u8").view("<u2")[:40]
    np.testing.assert_array_equal(case.network.biases(params)[0] != 0, numbers >= 2**15)


def test_trainers_that_compete_for_the_threads_give_the_same_bits(extension, dtype):
    extension._force_threads(2)
    shapes = ["wide", "simplechains", "deep", "mid"]
    alone = [learn(shape, Adam(0.001), dtype=dtype) for shape in shapes]
    start = threading.Barrier(len(shapes))
    with ThreadPoolExecutor(len(shapes)) as pool:
        assert (
            list(pool.map(lambda shape: (start.wait(60), learn(shape, Adam(0.001), dtype=dtype))[1], shapes)) == alone
        )


def test_batches_without_weight_do_not_part_a_team(same_for):
    """They are skipped without a barrier, also the last of an epoch, after which the order is drawn anew."""
    rng = np.random.default_rng(0)
    X, Y, weight = rng.normal(size=(64, 8)), rng.normal(size=(64, 3)), rng.choice([0.0, 1.0], 64, p=[0.8, 0.2])

    def run():
        trainer = Trainer([8, 8, 3], batch_size=1, seed=0, backend="native")
        trainer.fit(X, Y, epochs=300, sample_weight=weight)
        return everything(trainer)

    same_for((1, 2, 3), run)


CHANGED_WEIGHT = """
import threading, time
import numpy as np
from briskmlp import _native, Trainer

_native._force_threads(2)
rng = np.random.default_rng(0)
X, Y, weight = rng.normal(size=(64, 8)), rng.normal(size=(64, 3)), np.ones(64, dtype=np.float32)
stop = threading.Event()

def change():
    while not stop.is_set():
        weight[1:] = 0  # one row keeps its weight: a loss is divided by the epoch's
        weight[1:] = 1
        time.sleep(1e-5)  # leaves two processors to the team

thread = threading.Thread(target=change)
thread.start()
trainer = Trainer([8, 8, 3], batch_size=1, seed=0, backend="native")
try:
    for _ in range(5):
        trainer.fit(X, Y, epochs=150, sample_weight=weight)
finally:
    stop.set()
    thread.join()
print(trainer.epoch, np.isfinite(trainer.parameters).all())
"""


def test_weights_that_change_during_a_fit_do_not_part_a_team():
    """Whether a batch is skipped is decided once for all of the team: else one waits for who never comes."""
    assert run_script(CHANGED_WEIGHT).split() == ["750", "True"]


IDLE = """
import time
import numpy as np
from briskmlp import _native, Trainer

_native._force_threads(2)
X = np.random.default_rng(0).normal(size=(256, 64))
Trainer([64, 64, 64], seed=0, backend="native").fit(X, X, epochs=20)
before = time.process_time()
time.sleep(0.3)
print(time.process_time() - before)
"""


def test_a_process_is_idle_after_a_fit():
    """A worker that went on spinning would take all of the 0.3 s that pass; one that sleeps takes none of them."""
    assert float(run_script(IDLE)) < 0.1


FORK_BESIDE_TEAM = """
import os, signal, threading, warnings
import numpy as np
from briskmlp import _native, Adam, Trainer

warnings.simplefilter("ignore", DeprecationWarning)  # Python's own, about forks beside threads
_native._force_threads(2)
X = np.random.default_rng(0).normal(size=(1024, 64))
stop, trained = threading.Event(), threading.Event()

class Stop:
    def on_epoch_end(self, trainer, record):
        trained.set()
        return stop.is_set()

def make():
    return Trainer([64, 64, 64], optimizer=Adam(), batch_size=64, seed=0, backend="native")

def bits(epochs):
    trainer = make()
    trainer.fit(X, X, epochs=epochs)
    return trainer.parameters.tobytes()

expected = bits(3)
trainer = make()
thread = threading.Thread(target=lambda: trainer.fit(X, X, epochs=10**9, callbacks=[Stop()]), daemon=True)
thread.start()
assert trained.wait(30)
for _ in range(10):
    pid = os.fork()
    if pid == 0:
        signal.alarm(10)  # a child that waits for ever is killed
        os._exit(0 if bits(3) == expected else 3)
    _, status = os.waitpid(pid, 0)
    assert status == 0, status
stop.set()
thread.join()
assert bits(3) == expected
assert trainer.parameters.tobytes() == bits(trainer.epoch)
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_beside_a_team_parts_neither_process():
    """The child has none of the team's workers, whatever they were doing; the parent's go on."""
    assert run_script(FORK_BESIDE_TEAM) == "done\n"


LIMITS = """
import os
from briskmlp import _native, Trainer

def threads(limit=None):
    trainer = Trainer([256, 512, 512, 10], batch_size=512, backend="native", threads=limit)
    return _native.describe(trainer._session._workspace(4096))[1]

print(threads(2))
for name in ("BRISKMLP_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ[name] = "1"
    print(threads())
    del os.environ[name]
os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:1])
print(threads(), threads(2))
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no process to CPUs")
def test_environment_and_affinity_bound_the_threads_of_a_workspace():
    two = min(2, len(os.sched_getaffinity(0)))
    assert run_script(LIMITS).split() == [str(two), "1", "1", "1", "1"]


def test_threadpoolctl_lists_and_bounds_the_threads():
    make("mse", backend="native").fit(*data("mse", 20)[:2], epochs=1)

    def ours():
        return [library for library in threadpoolctl.threadpool_info() if library["user_api"] == "briskmlp"]

    (library,) = ours()
    assert Path(library["filepath"]).name.startswith("_native")
    assert library["version"] == briskmlp._native.version
    before = library["num_threads"]
    with threadpoolctl.threadpool_limits(1, user_api="briskmlp"):
        assert ours()[0]["num_threads"] == 1
        with threadpoolctl.threadpool_limits(3):
            assert ours()[0]["num_threads"] == min(3, os.cpu_count())
    assert ours()[0]["num_threads"] == before <= os.cpu_count()


LIMITED = """
import threading
from pathlib import Path
import numpy as np, threadpoolctl
from briskmlp import _native, Trainer

X = np.ones((64, 64), dtype=np.float32)
trainer, n = Trainer([64, 64, 64], backend="native"), lambda: len(list(Path("/proc/self/task").iterdir()))
trainer.fit(X, X, epochs=1)  # loads what there is to load
_native._force_threads(3)
before = n()
with threadpoolctl.threadpool_limits(1):
    trainer.batch_size = 16
    trainer.fit(X, X, epochs=1)
    print(n() - before)
_native._force_threads(3)
trainer.fit(X, X, epochs=1)
print(n() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_the_bound_is_kept():
    """Counted are the threads that were started: none under a limit of one, then two beside the caller."""
    assert run_script(LIMITED).split() == ["0", "2"]


def has_denormals():
    smallest = [np.nextafter(number(0), number(1)) for number in (np.float32, np.float64)]
    return all(each * each.dtype.type(1) != 0 for each in smallest)


def test_denormals_are_the_users_again_after_every_call(extension):
    extension._force_threads(2)
    assert has_denormals()
    trainer, (X, Y, _) = make("mse", backend="native"), data("mse", 100)
    for call in (lambda: trainer.fit(X, Y, epochs=1), lambda: trainer.predict(X), lambda: trainer.evaluate(X, Y)):
        call()
        assert has_denormals()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(trainer.fit, X, Y, epochs=1).result(60)
        assert pool.submit(has_denormals).result(60)


# --- what fails ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["fit", "predict", "evaluate", "loss_and_gradient"])
def test_any_allocation_may_fail(extension, call):
    (X, Y, _), twin = data("mse", 50), make("mse", backend="native", optimizer=Adam())
    trainer = make("mse", backend="native", optimizer=Adam())
    for each in (trainer, twin):
        each.fit(X[:20], Y[:20], epochs=1)

    def run(trainer):
        if call == "fit":
            return trainer.fit(X, Y, epochs=2).loss
        result = trainer.predict(X) if call == "predict" else getattr(trainer, call)(X, Y)
        return result[0] if call == "loss_and_gradient" else result

    before, failed = everything(trainer), 0
    for count in range(1, 100):
        extension._fail_allocation(count)
        try:
            result = run(trainer)
        except MemoryError:
            failed += 1
            assert everything(trainer) == before
        else:
            break
    extension._fail_allocation(0)
    assert failed >= 2
    np.testing.assert_array_equal(result, run(twin))
    assert everything(trainer) == everything(twin)


def test_numbers_that_make_no_workspace_are_refused(extension):
    plan = build([3, 4, 2]).plan
    for n, threads in ((-1, 1), (5, 0), (5, -3)):
        with pytest.raises(ValueError, match=f"n is {n} and threads {threads}, but must be at least 0 and 1"):
            extension.workspace(plan, 8, "portable", n, True, threads)
    assert extension.describe(extension.workspace(plan, 8, "portable", 0, True, 2**31 - 1))[1] == 1


def altered(plan, **values):
    """Return what has other values than the plan, whatever the plan takes these from."""
    return type("Altered", (), {"__getattr__": lambda self, name: values.get(name, getattr(plan, name))})()


def test_more_memory_than_there_is(extension):
    plan = build([3, 4, 2]).plan
    for n in (2**46, 2**62):
        with pytest.raises(MemoryError):
            extension.workspace(plan, 8, "portable", n, True, 1)
    for layers in ([2**29, 2**29], [2**57, 1], [1, 2**57]):
        widths = np.array(layers)
        wide = {"layers": widths, "activations": np.zeros(1, int), "n_parameters": 2**62, "dropout": np.zeros(1)}
        offsets = {"offsets": np.array([0, 2**58]), "activation_parameters": np.zeros((1, 2))}
        tensors = {**dict.fromkeys(("rate_scale", "decay", "l2"), np.zeros(2)), "trained": np.ones(2, int)}
        with pytest.raises(MemoryError):
            extension.workspace(altered(plan, **wide, **offsets, **tensors), 8, "portable", 10**6, True, 1)


def test_two_calls_at_once_are_too_many_for_one_workspace():
    """One of them is refused, the other undisturbed."""
    case = build([16, 32, 16], n=2000, batch_size=10)
    work, start = native.workspace(case.plan, case.dtype, case.n), threading.Barrier(2)
    rates = np.full(100, 0.01)

    def run(_):
        state = case.start()
        start.wait(60)
        try:
            native.train(work, state, case.examples, Steps(rates, np.empty(100), 10**6))
        except RuntimeError as error:
            return str(error)
        return state.parameters.tobytes()

    with ThreadPoolExecutor(2) as pool:
        results = set(pool.map(run, range(2)))
    alone = case.train(native, rates)[0].tobytes()
    assert results == {"this workspace is in use by another call", alone}


def unaligned(array):
    memory = np.zeros(array.nbytes + 1, np.uint8)
    view = memory[1:].view(array.dtype).reshape(array.shape)
    view[...] = array
    return view


CASE = build([5, 9, 3], n=20, weighted=True, optimizer=Adam(0.1))
LABELS = build([5, 9, 3], n=20, output="softmax", loss="cross_entropy", labels=True, optimizer=Adam(0.1))
TRAIN = {
    "params": CASE.params, "slots": CASE.slots(), "counts": np.array([0, 0, 0]), "sums": np.zeros(2),
    "scalars": np.zeros(0),
    "X": CASE.X, "Y": CASE.Y, "weight": CASE.weight,
    "rates": np.array([0.1]), "losses": np.zeros(1), "max_steps": 100, "order": None,
    "per_step": None,
}  # fmt: skip


def train(extension, work, arguments):
    """Call the extension's train with TRAIN's arguments: the state's, the examples', the steps'."""
    values = tuple(arguments.values())
    return extension.train(work, values[:5], values[5:8], values[8:])


REFUSED = [
    ({"params": CASE.params[:-1]}, ValueError, r"params has length \d+ along axis 0, but must have 84"),
    ({"params": CASE.params.astype("f4")}, TypeError, "params has numbers of format 'f', but must have .* of 'd'"),
    ({"params": CASE.params[None]}, ValueError, "params has 2 axes, but must have 1"),
    ({"params": unaligned(CASE.params)}, (TypeError, ValueError), "params .* must .* aligned"),
    ({"params": np.repeat(CASE.params, 2)[::2]}, ValueError, "params must be aligned and in C order"),
    ({"params": np.broadcast_to(CASE.params, CASE.params.shape)}, ValueError, "read-only"),
    ({"params": CASE.params.tolist()}, TypeError, "bytes-like object"),
    ({"slots": CASE.slots()[:1]}, ValueError, "slots has length 1 along axis 0, but must have 2"),
    ({"X": CASE.X[:, :4].copy()}, ValueError, "X has length 4 along axis 1, but must have 5"),
    ({"X": np.asfortranarray(CASE.X)}, ValueError, "X must be aligned and in C order within each row"),
    ({"X": CASE.X.astype(">f8")}, TypeError, "X has numbers of format '>d'"),
    ({"X": CASE.X[:19]}, ValueError, "Y has length 20 along axis 0, but must have 19"),
    ({"X": CASE.X[:19], "Y": CASE.Y[:19], "weight": None}, ValueError, "X or order has another length than the work"),
    ({"Y": CASE.Y[:, :2].copy()}, ValueError, "Y has length 2 along axis 1, but must have 3"),
    ({"Y": np.zeros(20, dtype=int)}, TypeError, "Y has numbers of format 'l', but must"),
    ({"weight": CASE.weight[:5]}, ValueError, "weight has length 5 along axis 0, but must have 20"),
    ({"order": np.arange(1, 21)}, ValueError, r"order\[19\] is 20, but there are 20 rows"),
    ({"order": -np.arange(20)}, ValueError, r"order\[1\] is -1, but there are 20 rows"),
    ({"order": np.arange(21) % 20}, ValueError, "X or order has another length than the workspace is for"),
    ({"order": np.arange(20.0)}, TypeError, "order has numbers of format 'd'"),
    ({"order": np.arange(0)}, ValueError, "counts and max_steps are no place in an epoch"),
    ({"counts": np.array([0, 4, 0])}, ValueError, "counts and max_steps are no place in an epoch"),
    ({"counts": np.array([0, -1, 0])}, ValueError, "counts and max_steps are no place in an epoch"),
    ({"counts": np.array([-1, 0, 0])}, ValueError, "counts and max_steps are no place in an epoch"),
    ({"counts": np.array([0, 0, 2**63 - 1])}, ValueError, "counts and max_steps are no place in an epoch"),
    ({"counts": np.zeros(2, dtype=int)}, ValueError, "counts has length 2"),
    ({"max_steps": -1}, ValueError, "counts and max_steps are no place in an epoch"),
    ({"max_steps": 2**63}, OverflowError, "too large|too big"),
    ({"sums": np.zeros(3)}, ValueError, "sums has length 3"),
    ({"per_step": np.zeros((99, 9))}, ValueError, "per_step has fewer rows than max_steps"),
    ({"per_step": np.zeros((100, 8))}, ValueError, "per_step has length 8 along axis 1, but must have 9"),
    ({"losses": np.zeros(2)}, ValueError, "losses has length 2 along axis 0, but must have 1"),
]


@pytest.mark.parametrize(("wrong", "error", "message"), REFUSED)
def test_arrays_that_lead_out_of_their_memory_are_refused(extension, wrong, error, message):
    arguments = {**TRAIN, **wrong}
    work = native.workspace(CASE.plan, CASE.dtype, CASE.n)
    with pytest.raises(error, match=message):
        train(extension, work, arguments)
    whole = {**TRAIN, "params": CASE.params.copy(), "counts": np.zeros(3, dtype=int)}
    assert train(extension, work, whole) is None  # nothing is held


def test_of_a_given_order_only_the_batches_of_the_call_are_looked_at(extension):
    """Staged data have places for these alone."""
    order = np.arange(-10, 10)
    arguments = {**TRAIN, "params": CASE.params.copy(), "order": order, "slots": CASE.slots()}
    arguments |= {"X": CASE.X[:10], "Y": CASE.Y[:10], "weight": None}
    work = native.workspace(CASE.plan, CASE.dtype, CASE.n)
    arguments |= {"counts": np.array([0, 2, 2]), "max_steps": 2}
    assert train(extension, work, arguments) is None
    arguments |= {"counts": np.array([0, 1, 2]), "max_steps": 2}
    with pytest.raises(ValueError, match=r"order\[5\] is -5, but there are 10 rows"):
        train(extension, work, arguments)


def test_a_prediction_is_checked_as_well(extension):
    work = native.workspace(CASE.plan, CASE.dtype, 10, training=False)
    rows, out = np.arange(10), np.zeros((10, 3))
    for wrong, message in [
        ({"rows": rows + 11}, r"rows\[9\] is 20, but there are 20 rows"),
        ({"rows": -rows}, r"rows\[1\] is -1"),
        ({"rows": np.arange(11)}, "rows are more than the workspace is for"),
        ({"out": out[:9]}, "out has length 9 along axis 0, but must have 10"),
        ({"out": np.zeros((10, 6))[:, ::2]}, "out must be aligned and in C order"),
    ]:
        arguments = {"params": CASE.params, "X": CASE.X, "rows": rows, "out": out, **wrong}
        with pytest.raises(ValueError, match=message):
            extension.forward(work, *arguments.values())
    with pytest.raises(ValueError, match="made with training=False"):
        train(extension, work, TRAIN)
    grad = np.zeros_like(CASE.params)
    with pytest.raises(ValueError, match="made with training=False"):
        native.gradient(work, CASE.start(), CASE.examples, rows, 1.0, grad)
    with pytest.raises(ValueError, match="PyCapsule_GetPointer"):
        extension.forward(ctypes.py_object(), CASE.params, CASE.X, rows, out)


@pytest.mark.parametrize("label", [3, -1, 2**62, -(2**63)])
def test_a_label_that_is_none_reads_nothing_and_is_seen_in_the_loss(isa, label):
    """The Trainer checks labels, but the array may be the user's own, and change while a fit runs."""
    Y = LABELS.Y.copy()
    Y[7] = label
    work = native.workspace(LABELS.plan, LABELS.dtype, LABELS.n)
    state, examples = LABELS.start(), Examples(LABELS.X, Y)
    assert np.isnan(native.gradient(work, state, examples, LABELS.rows, 1.0))
    assert native.train(work, state, examples, Steps(np.array([0.1]), np.empty(1), 10**6)) is not None
    np.testing.assert_array_equal(state.parameters, LABELS.params)


@pytest.mark.parametrize(
    "wrong",
    [
        {"layers": np.array([5])},
        {"layers": np.array([5, 0, 3])},
        {"layers": np.array([5, -9, 3])},
        {"layers": np.array([2**62, 2**62, 3])},
        {"layers": np.array([5.0, 9.0, 3.0])},
        {"activations": np.array([4, 0])},  # a hidden softmax
        {"activations": np.array([6, 3])},  # a hidden exp
        {"activations": np.array([1, 6])},  # an exp without poisson
        {"activations": np.array([1, len(ACTIVATIONS)])},
        {"activations": np.array([2**32 + 1, 3])},
        {"activation_parameters": np.zeros((2, 3))},
        {"offsets": np.array([0, 45, 58, 81])},
        {"offsets": np.array([-1, 45, 54, 81])},
        {"offsets": np.array([0, 45, 54, 2**63 - 1])},
        {"trained": np.array([1, 1, 0, 1])},
        {"n_parameters": 83},
        {"n_parameters": -1},
        {"n_slots": 1},
        {"n_scalars": 1},
        {"rule": len(RULES)},
        {"rule": "adam"},
        {"loss": 1},  # cross-entropy of an identity
        {"loss": 2},  # poisson of an identity
        {"loss": 3, "activations": np.array([1, 4])},  # absolute error of a softmax
        {"loss": 5},
        {"divisor": 3},
        {"dropout": np.array([0.5, 0.5])},  # of outputs
        {"dropout": np.array([1.0, 0.0])},
        {"dropout": np.array([-0.1, 0.0])},
        {"dropout": np.array([np.nan, 0.0])},
        {"dropout": np.zeros(3)},
        {"decoupled": 2},
        {"clip_norm": None},
        {"bias": 3},
        {"batch_size": -5},
        {"seed": 2**64},
        {"hyper": np.zeros(7)},
        {"l2": np.zeros(2)},
    ],
    ids=str,
)
def test_a_plan_of_no_network_is_refused(extension, wrong):
    with pytest.raises((ValueError, TypeError, OverflowError)):
        extension.workspace(altered(CASE.plan, **wrong), 8, "portable", 10, True, 1)


def test_what_diverges_leaves_everything_as_it_was(isa, dtype):
    case = build([4, 9, 3], dtype=dtype, n=23, optimizer=Adam(0.1), shuffle=False)
    state = case.start()
    call = native.workspace(case.plan, dtype, case.n), state, case.examples
    changed = *state.arrays, state.position.counts, state.position.sums
    assert native.train(*call, Steps(np.full(2, 0.1), np.empty(2), 7)) is None
    before = [each.tobytes() for each in changed]
    huge = np.full(2, np.finfo(dtype).max)
    assert native.train(*call, Steps(np.array([0.1, *huge]), np.empty(3), 100)) is not None
    assert [each.tobytes() for each in changed] == before
    assert native.train(*call, Steps(np.full(1, 0.1), np.empty(1), 100)) is None


# --- the activations -------------------------------------------------------------------------------------------------


def exp(x):
    """Exact where e^x < 2^-25, when softmax of (x, 0) is e^x itself."""
    return np.exp(np.where((x <= -17.5) & (x >= -100), x, np.nan))


@pytest.mark.parametrize(
    ("output", "exact"),
    [
        ("sigmoid", lambda x: 1 / (1 + np.exp(-x))),
        ("tanh", np.tanh),
        ("softmax", exp),
        ("exp", lambda x: np.exp(np.where(x < 88.72, x, np.nan))),  # the largest float32 number is e^88.722…
    ],
)
def test_activations_of_2_to_20_numbers_are_within_two_ulp(isa, output, exact):
    """One of each 4096 neighbouring float32 numbers, as far as kernels/check.sh does not take them all.

    float64's functions stand for the exact ones: their errors are 2^-28 ulp of float32. Results below the smallest
    normal number are flushed to 0, or correct.
    """
    trainer = Trainer(
        [1, 2 if output == "softmax" else 1], output=output, loss="poisson" if output == "exp" else "mse",
        bias="none", backend="native", threads=2,
    )  # fmt: skip
    assert trainer.isa == isa
    trainer.weights[0][0] = [1, 0] if output == "softmax" else 1
    rng, smallest = np.random.default_rng(0), np.finfo("float32").smallest_normal
    bits = np.arange(2**20, dtype=np.uint32) * 4096 + rng.integers(4096, size=2**20, dtype=np.uint32)
    x = bits.view(np.float32)
    x = x[np.isfinite(x)]
    got = trainer.predict(x)[:, 0].astype(float)
    with np.errstate(over="ignore", under="ignore"):
        wanted = exact(np.where(np.abs(x) < smallest, 0, x).astype(float))
    tested, normal = ~np.isnan(wanted), np.abs(wanted) >= smallest
    ulp = np.spacing(np.abs(np.where(normal, wanted, smallest)).astype(np.float32)).astype(float)
    error = np.abs(got - wanted) / ulp
    assert error[tested & normal].max(initial=0) <= 2.0
    assert ((got == 0) | (error <= 1))[tested & ~normal].all()


def test_the_schedule_is_explained(extension):
    def lines(layers, batch_size, threads=2):
        trainer = Trainer(layers, batch_size=batch_size, threads=threads, backend="native")
        return trainer.explain(schedule=True).splitlines()

    assert lines([2, 2, 1], 4, 1)[-1].endswith("; no layer is divided")
    extension._force_threads(2)
    table, shards = lines([784, 256, 256, 10], 512), lines([4, 16, 3], 1000)[-1]
    start = next(i for i, line in enumerate(table) if line.startswith("schedule: "))
    assert table[start] == "schedule: 2 threads; a batch of 512 rows in chunks of at most 512"
    assert table[start + 1].split() == ["layer", "forward", "dX", "dW", "barriers"]
    assert [line.split()[:4] for line in table[start + 2 :]] == [
        ["1", "panels", "-", "panels"],
        ["2", "panels", "panels", "panels"],
        ["3", "rows", "panels", "inputs"],
    ]
    assert table[-1].endswith("before forward, after loss, after dX")
    assert "in 8 shards" in shards
    assert "barriers" in shards
    assert "schedule:" not in Trainer([2, 2, 1], backend="native").explain()
