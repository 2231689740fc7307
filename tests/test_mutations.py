"""What the tables of operations say is needed: each field of each row is altered in turn, and some test must fail.

This file is a program as well, which alters one table. It imports all libraries but briskmlp and forks for each mutant,
which runs tests in a copy of the repository that has the altered file.
"""

import ast
import itertools
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]
FILES = {
    **{name: f"src/briskmlp/operations/{name}.py" for name in ("activations", "losses", "rules", "layers")},
    "numba-activations": "src/briskmlp/backends/numba/activations.py",
    "numba-losses": "src/briskmlp/backends/numba/losses.py",
    "numba-rules": "src/briskmlp/backends/numba/update.py",
    "c": "kernels/operations.def",
}
BACKENDS = "float64 and (test_every_activation_loss_and_bias or test_update_moves or test_training_follows_the_oracle)"
NUMPY = "not native and not numba"
NORMS = ("BatchNorm", "LayerNorm")  # which have parameters as these have
TESTS = {  # those that may notice, fast ones first, and which of their cases
    "activations": ("operations plan initializers losses oracle network convert_torch estimators", NUMPY),
    "losses": ("operations losses plan oracle network backends", NUMPY),
    "rules": ("operations optimizers plan oracle backends checkpoint_resume", NUMPY),
    "layers": ("network plan norm norm_trainer norm_torch convert_torch checkpoint", NUMPY),
    "numba": ("operations backends", f"test_the_tables or numba and {BACKENDS}"),
    "c": ("operations backends", f"test_the_tables or native-portable and {BACKENDS}"),
}

# How the fields of a row are altered, where {0} is what stands there, or the default where the row leaves it out.
NEGATED = "(lambda *a: -1 * {0}(*a)) if {0} else (lambda *a: a[0])"
WAYS = {
    "Activation": {
        "name": ["{0} + 'x'"],
        "f": [NEGATED],
        "df": [NEGATED],
        "saves": ["{{'A': 'slope', 'slope': 'exact_A', 'exact_A': 'A'}}[{0}]"],
        "hidden": ["not {0}"],
        "homogeneous": ["not {0}"],
        "gain": ["{{'glorot': 'he', 'he': 'lecun', 'lecun': 'glorot'}}[{0}]"],
        "factor": ["2 * {0}"],
        "kind": ["ELU if {0} is not ELU else Hardtanh"],
        "kinks": ["lambda *a: (*{0}(*a), 0.5)"],
        "range": [
            "lambda *a: (max({0}(*a)[0], -99) + 0.125, {0}(*a)[1])",
            "lambda *a: ({0}(*a)[0], min({0}(*a)[1], 99) - 0.125)",
        ],
        "sklearn": ["({0} or '') + 'x'"],
        "torch": [
            "{0}._replace(module='Hardshrink')",
            "{0}._replace(functions=('square',))",
            "{0}._replace(options={{'approximate': 'tanh' if 'none' in {0}.options.values() else 'none'}})",
        ],
        "onnx": ["(*{0}, Node('Neg', (len({0}) - 1,)))"],
    },
    "Loss": {
        "name": ["{0} + 'x'"],
        "outputs": ["{0}[:-1]", "(*{0}, 'exp' if 'exp' not in {0} else 'tanh')"],
        "default": ["lambda *_: 'tanh' if {0}('tanh', 1) == 'exp' else 'exp'"],
        "targets": ["{{None: 'counts', 'counts': 'probabilities', 'probabilities': None}}[{0}]"],
        "reference": [f"lambda o, Y: (lambda E, g: ({E}, {g}))(*{{0}}(o, Y))" for E, g in (("-E", "g"), ("E", "-g"))],
    },
    "Rule": {
        "name": ["{0} + 'x'"],
        "step": ["lambda w, g, slots, t, *hyper: {0}(w, g, slots, t._replace(lr=-t.lr), *hyper)"],
        "hyper": ["{0}[::-1] if len({0}) > 1 else (*{0}, 'x')", "(*{0}, 'x')"],
        "slots": ["(*{0}, 'x')", "tuple(slot + 'x' for slot in {0}) or ('x',)", "{0}[:-1] or ('x',)"],
        "scalars": ["(*{0}, 'x')", "tuple(scalar + 'x' for scalar in {0}) or ('x',)"],
        "initial": ["lambda *hyper: tuple(x + 1 for x in {0}(*hyper)) if {0} else (1.0,)"],
        "initial_scalars": ["tuple(x + 1 for x in {0}) or (1.0,)"],
        "advance": ["None if {0} else (lambda scalars, *_: scalars.__setitem__(0, 2))"],
        "counts_steps": ["not {0}"],
    },
    "Layer": {
        "name": ["{0} + 'x'"],
        "tensors": ["{0}[::-1]", "tuple(name + 'x' for name in {0})"],
        "statistics": ["(*{0}, 'x')"],
        "shape": ["lambda *a: {0}(*a)[::-1]", "lambda *a: (*{0}(*a), 1)"],
        "kind": ["BatchNorm if {0} is not BatchNorm else LayerNorm"],
        "axis": ["1 - {0}"],
        "torch": ["{0} + 'x'"],
        "onnx": ["{0} + 'x'"],
    },
}


def altered(text, node, new, *, at_end=False):
    """Return the text with a node of its tree replaced by ``new``, or followed by it."""
    lines = text.splitlines(keepends=True)
    before = "".join(lines[: node.lineno - 1]) + lines[node.lineno - 1].encode()[: node.col_offset].decode()
    after = lines[node.end_lineno - 1].encode()[node.end_col_offset :].decode() + "".join(lines[node.end_lineno :])
    old = text[len(before) : len(text) - len(after)]
    return before + old * at_end + new + after


def of_rows(text, tree):
    """Yield a name and the altered text for each way in which a field of a row is altered."""
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    for row in ast.walk(tree):
        if not isinstance(row, ast.Call) or ast.unparse(row.func) not in WAYS:
            continue
        declared = {item.target.id: item for item in classes[row.func.id].body if isinstance(item, ast.AnnAssign)}
        given = dict(zip(declared, row.args)) | {keyword.arg: keyword.value for keyword in row.keywords}  # noqa: B905
        for field, ways in WAYS[row.func.id].items():
            if field == "initial" and "slots" not in given:
                continue  # there is nothing to fill
            if field in ("axis", "torch", "onnx") and "kind" not in given:
                continue  # a dense layer has none
            was = f"({ast.unparse(given.get(field, declared[field].value))})"
            for i, way in enumerate(ways):
                if "approximate" in way and "approximate" not in was:
                    continue  # no class of PyTorch's stands for two rows
                new = way.format(was)
                last = row.keywords[-1].value if row.keywords else row.args[-1]
                yield (
                    f"{ast.literal_eval(given['name'])}.{field}.{i}",
                    (
                        altered(text, given[field], new)
                        if field in given
                        else altered(text, last, f", {field}={new}", at_end=True)
                    ),
                )


def of_parameters(text, tree):
    """Yield the same for the defaults and the bounds of activations' parameters and optimizers' hyperparameters."""
    for cls in tree.body:
        if not isinstance(cls, ast.ClassDef):
            continue
        if ast.unparse(cls.bases) not in ("Parametrised", "Optimizer", "Adam") and cls.name not in NORMS:
            continue
        fields = {item.target.id: item for item in cls.body if isinstance(item, ast.AnnAssign)}
        bounds = fields.pop("bounds", None)
        checks = [item for item in cls.body if getattr(item, "name", "") == "__post_init__"]
        for check in checks:
            yield f"{cls.name}.check", altered(text, check, "def __post_init__(self): pass")
        for name, field in fields.items():
            was, first = ast.unparse(field.value), next(iter(fields.values()))
            yield (
                f"{cls.name}.{name}",
                altered(text, field.value, f"not {was}" if was in ("True", "False") else f"{was} / 2 + 0.25"),
            )
            if "ClassVar" in ast.unparse(field.annotation) or (checks and "super" not in ast.unparse(checks)):
                continue  # which nobody gives, or which the class checks without bounds
            inherited = ast.unparse(bounds.value if bounds else cls.bases) + ".bounds" * (bounds is None)
            anything = f"bounds: ClassVar = {{**{inherited}, {name!r}: lambda *_: None}}"
            yield (
                f"{cls.name}.{name}.bound",
                (
                    altered(text, bounds, anything)
                    if bounds
                    else altered(text, first, f"{anything}\n    {ast.unparse(first)}")
                ),
            )


def of_numba(text, tree):
    """Yield the same for Numba's tables, whose functions are exchanged for others of their kind."""
    assigned = (node for node in tree.body if isinstance(node, ast.Assign | ast.AnnAssign) and node.value)
    tables = {ast.unparse(getattr(node, "target", None) or node.targets): node.value for node in assigned}
    rows = [row.elts for row in tables["ROWS"].elts if isinstance(row, ast.Tuple)] if "ROWS" in tables else []
    kinds = [*zip(*(row for row in rows if len(row) == 2), strict=True)]
    kinds += [[row[0] for row in rows if len(row) == 1]] if rows else []
    kinds += [tables["RULES"].elts] if "RULES" in tables else [tables["OF_ROWS"].values] if "OF_ROWS" in tables else []
    for kind, functions in enumerate(kinds):
        written = [ast.unparse(function) for function in functions]
        for i, function in enumerate(functions):
            if written[i] != "None":
                other = next(each for each in written if each not in (written[i], "None"))
                yield f"{kind}.{i}", altered(text, function, other)


def cells(text):
    """Yield of each row of operations.def its kind, and the start and end of each of its cells."""
    for row in re.finditer(r"^([A-Z_]+)\(", text, re.MULTILINE):
        depth, start, spans = 1, row.end(), []
        for at in itertools.count(row.end()):
            depth += {"(": 1, ")": -1}.get(text[at], 0)
            if depth == 0 or (depth == 1 and text[at] == ","):
                spans.append(slice(start, at))
                start = at + 1
            if depth == 0:
                break
        yield row[1], spans


def of_c(text):
    """Yield the same for operations.def."""
    rules = [[text[cell] for cell in spans] for kind, spans in cells(text) if kind == "RULE"]
    for kind, spans in cells(text):
        for i, cell in enumerate(spans):
            new = f" x{text[cell].strip()}"  # which does not compile, or is no name of Python's
            if kind == "RULE" and i > 2:
                new = next(rule[i] for rule in rules if rule[i] != text[cell])
                if text[cell].strip() == "(void)0":
                    continue  # what computes too much changes no result
            elif text[cell].strip().isdigit():
                new = f" {text[cell]} + 1"
            elif i > 0 and not text[cell].strip().isupper():
                new = f" vec_splat(0) - ({text[cell]})"
            elif i > 0:
                kinds = ("ANYWHERE", "OUTPUT"), ("NOTHING", "A", "EXACT_A", "SLOPE", "NOTHING")
                new = next((k[k.index(text[cell].strip()) + 1 - len(k)] for k in kinds if text[cell].strip() in k), new)
            yield f"{text[spans[0]]}.{i}", text[: cell.start] + new + text[cell.stop :]


def compiled(kernels, file, output, double=0):
    """Compile a file of kernels/ quickly, for the portable instruction set alone."""
    flags = ["-std=c11", "-O1", "-fPIC", "-pthread", "-ffp-contract=off", "-w", f"-I{sysconfig.get_path('include')}"]
    macros = {"Py_LIMITED_API": "0x030b0000", "BRISK_ISA": "portable", "BRISK_DOUBLE": double}
    macros |= {"BRISKMLP_VERSION": '"0"', "BRISKMLP_COMPILER": '"0"'}
    flags += [f"-D{name}={value}" for name, value in macros.items()]
    subprocess.run([os.environ.get("CC", "gcc"), *flags, "-c", kernels / file, "-o", output], check=True)


def objects(folder):
    """Compile what no mutant changes: all but the kernels of float64; other ISAs have none."""
    kernels = TOP / "kernels"
    for file in (*kernels.glob("runtime/*.c"), *kernels.glob("python/*.c")):
        compiled(kernels, file, folder / f"{file.stem}.o")
    compiled(kernels, "isa/kernels.c", folder / "float32.o")
    isas = re.findall(r"ROW\(\w+, (\w+)", (kernels / "isa/isas.h").read_text(encoding="utf-8"))[1:]
    names = (f"brisk_{isa}_float{size}" for isa in isas for size in (32, 64))
    (folder / "others.c").write_text("".join(f"const char {name}[4096];\n" for name in names), encoding="utf-8")
    compiled(folder, "others.c", folder / "others.o")


def build(copy, built):
    """Link the extension of a copy with its kernels of float64."""
    compiled(copy / "kernels", "isa/kernels.c", copy / "float64.o", double=1)
    library = copy / "src/briskmlp/_native.abi3.so"
    command = [os.environ.get("CC", "gcc"), "-shared", "-pthread", *built.glob("*.o"), copy / "float64.o", "-lm"]
    subprocess.run([*command, "-o", library], check=True)


def in_fork(function):
    """Return the exit code of a function in a process of its own; 70 if it raises."""
    if (pid := os.fork()) == 0:
        code = 70
        with suppress(Exception):
            code = int(function())
        os._exit(code)
    return pid


def runs(copy, name, cases):
    """Run a file's cases in a copy; return pytest's exit code, 0 where there are none."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # which is for the program's own lines
    os.chdir(copy)
    sys.meta_path[:] = [finder for finder in sys.meta_path if "Redirecting" not in type(finder).__name__]  # editable
    sys.path.insert(0, str(copy / "src"))
    code = pytest.main(
        ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "-k", cases, f"tests/test_{name}.py"]
    )
    return 0 if code == pytest.ExitCode.NO_TESTS_COLLECTED else code


def notices(table, text, built):
    """Return the exit code of the first tests that fail with a file's altered text; 0 if all pass."""
    names, cases = TESTS[table.split("-")[0]]
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for part in ("src", "tests", "kernels"):
            shutil.copytree(TOP / part, copy / part, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
        shutil.copy(TOP / "pyproject.toml", copy)
        (copy / FILES[table]).write_text(text, encoding="utf-8")
        for name in names.split():
            if table == "c" and name == "backends":
                build(copy, built)
            code = os.waitstatus_to_exitcode(os.waitpid(in_fork(lambda: runs(copy, name, cases)), 0)[1])  # noqa: B023
            if code:
                return code
    return 0


def main(table, only=""):
    """Print a line for each mutant of a table: its name, and the exit code of the tests."""
    for library in ("scipy.special", "numba", "sklearn.neural_network", "onnx.reference", "onnxruntime", "torch"):
        with suppress(ImportError):
            __import__(library)
    source = (TOP / FILES[table]).read_text(encoding="utf-8")
    if table == "c":
        found = of_c(source)
    elif table.startswith("numba"):
        found = of_numba(source, ast.parse(source))
    else:
        tree = ast.parse(source)
        found = itertools.chain(of_rows(source, tree), of_parameters(source, tree))
    running = {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NUMBA_CACHE_DIR"] = folder
        if table == "c":
            objects(Path(folder))
        for name, text in itertools.chain([("nothing", source)], found, itertools.repeat(("", ""), os.cpu_count())):
            if len(running) == os.cpu_count() or (not name and running):
                pid, status = os.wait()
                print(running.pop(pid), os.waitstatus_to_exitcode(status), flush=True)
            if name and only in name:
                running[in_fork(lambda: notices(table, text, Path(folder)))] = name  # noqa: B023


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("table", FILES)
def test_no_mutant_survives(table):
    command = [sys.executable, "-W", "ignore", __file__, table]
    lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    codes = dict(line.rsplit(maxsplit=1) for line in lines if re.fullmatch(r".+ -?\d+", line))
    assert len(codes) > 5
    assert [name for name, code in codes.items() if code == "0"] == ["nothing"]
    assert "70" not in codes.values()


if __name__ == "__main__":
    main(*sys.argv[1:])
