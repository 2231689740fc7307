"""The parts of the Numba kernels: the product, the sample order, dropout, and how machine code is made and kept."""

import ast
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import llvmlite.binding as llvm
import numba
import numpy as np
import oracle
import pytest
from build import build
from numba import njit
from numba.core.compiler_lock import global_compiler_lock

from briskmlp.backends.numba import _options, activations, backward, layout, product, random
from briskmlp.backends.numba.update import clip
from briskmlp.backends.numba.vector import lanes, offset, pointer
from briskmlp.operations.activations import CODES
from briskmlp.optimizers import SGD

KERNELS = Path(_options.__file__).parent


# --- the product -----------------------------------------------------------------------------------------------------


@njit(error_model="numpy")
def multiply(A, a_i, a_p, B, b_p, init, z_i, C, c_i, m, n, k):
    product.product(pointer(A), 0, a_i, a_p, pointer(B), 0, b_p, pointer(init), 0, z_i, pointer(C), 0, c_i, m, n, k)


@pytest.mark.parametrize("m", [8, 16, 40])
@pytest.mark.parametrize("vecs", [1, 2, 3, 5])
def test_product_over_strides(dtype, m, vecs):
    n, rng = vecs * lanes(dtype), np.random.default_rng(0)
    for k, turned, gap, one_row in (
        (0, False, 0, True),
        (1, True, 3, False),
        (7, False, 1, False),
        (64, True, 0, True),
    ):
        A, B = rng.normal(size=(m, k)).astype(dtype), rng.normal(size=(k, n)).astype(dtype)
        init = rng.normal(size=(1 if one_row else m, n)).astype(dtype)
        memory = np.ascontiguousarray(A.T) if turned else A.copy()
        B_memory = np.full((k + 1, n + gap), np.nan, dtype)
        B_memory[:k, :n] = B
        C = np.full((m + 1, n + gap), np.nan, dtype)
        strides = (1, m) if turned else (k, 1)
        memory = np.append(memory.ravel(), dtype.type(np.nan))
        multiply(
            memory, *strides, B_memory.ravel(), n + gap, init.ravel(), 0 if one_row else n, C.ravel(), n + gap, m, n, k
        )
        wide = init.astype(float) + A.astype(float) @ B.astype(float)
        allowed = (k + 1) * np.finfo(dtype).eps * (np.abs(init) + np.abs(A) @ np.abs(B))
        assert (np.abs(C[:m, :n] - wide) <= allowed).all()
        assert np.isnan(C[m:]).all()
        assert np.isnan(C[:m, n:]).all()


# --- the sample order ------------------------------------------------------------------------------------------------


@njit
def draw(seed, epoch, shuffle, out):
    random.draw_order(seed, epoch, shuffle, pointer(out), out.size)


@pytest.mark.parametrize("seed", [0, 1, 2**63 - 1, 2**63, 2**64 - 1])
def test_draw_order_is_philox(seed):
    signed = seed - 2**64 if seed >= 2**63 else seed
    for n in (0, 1, 2, 3, 4, 5, 6, 9, 1000):
        for epoch in (0, 1, 12345678901):
            out = np.empty(n, dtype=np.int64)
            draw(signed, epoch, 1, out)
            np.testing.assert_array_equal(out, oracle.sample_order(seed, epoch, n))
            draw(signed, epoch, 0, out)
            np.testing.assert_array_equal(out, np.arange(n))


# --- dropout ---------------------------------------------------------------------------------------------------------


@njit
def draw_numbers(seed, epoch, place, layer, words, n_blocks):
    random.draw(seed, epoch, place, layer, pointer(words), n_blocks)


@pytest.mark.parametrize("seed", [0, 2**63 - 1, 2**63, 2**64 - 1])
def test_dropout_draws_philox(seed):
    signed = seed - 2**64 if seed >= 2**63 else seed
    for epoch, place, layer, n_blocks in ((0, 0, 0, 1), (3, 12345678901, 2, 5), (12345678901, 7, 1, 3)):
        words = np.zeros(4 * n_blocks + 1, np.uint64)
        draw_numbers(signed, epoch, place, layer, words, n_blocks)
        philox = np.random.Philox(
            key=np.array([seed, epoch], np.uint64), counter=np.array([0, place, layer, 2], np.uint64)
        )
        np.testing.assert_array_equal(words[:-1], philox.random_raw(4 * n_blocks))
        assert words[-1] == 0


@njit
def drop(job, layer, layer_index, buffer, m, epoch, place):
    random.drop(job[0], layer[0], layer_index, pointer(buffer), m, epoch, place)


pull_back = activations.pull_back.call


@njit
def slopes(address, buffer, d, a, size, kept, leak):
    pull_back(address, pointer(buffer), d, a, size, kept, leak, 0.0)
    backward.drop_delta(pointer(buffer), d, a, size)


@pytest.mark.parametrize("rate", [0.25, 0.3, 0.9, 1 - 2**-16])
def test_drop_and_its_slope(dtype, rate):
    """One number is dropped or multiplied as its 16-bit number says; the way back passes through the same factor."""
    vec = lanes(dtype)
    for n_vecs, name in ((1, "sigmoid"), (3, "tanh"), (5, "relu"), (2, "identity"), (4, "leaky_relu")):
        n, m, rng = n_vecs * vec, 3, np.random.default_rng(0)
        Z = rng.normal(size=(m, n))
        Z[0, :4] = [0.0, -0.0, 2.0, -2.0]
        f, slope = oracle.ACTIVATION[name]
        A, dA = f(Z).astype(dtype), rng.normal(size=(m, n)).astype(dtype)
        job, layer = np.zeros(1, layout.JOB), np.zeros(1, layout.LAYER)
        job["seed"], job["at_row"] = 5, 2 * m * n
        layer["columns"], layer["dropped"], layer["at_dropped"] = n, min(round(rate * 65536), 65535), -1
        buffer = np.concatenate([A.ravel(), dA.ravel(), np.full(max(n, 64), np.nan)]).astype(dtype)
        drop(job, layer, 1, buffer, m, 4, 1000)
        M = oracle.dropout_mask(5, 4, range(1000, 1000 + m), 1, n, rate)
        got, eps = buffer[: m * n].reshape(m, n), np.finfo(dtype).eps
        np.testing.assert_allclose(got, A * M, rtol=2 * eps, atol=0)  # the factor is rounded, and the product
        np.testing.assert_array_equal((got == 0) & np.signbit(got), M == 0)  # -0 is what was dropped, and nothing else
        address = activations.pull_back.address(CODES[name], dtype)
        slopes(address, buffer, m * n, 0, m * n, 1 - layer["dropped"][0] / 65536, oracle.LEAK)
        expected = dA.astype(float) * M * slope(Z, A.astype(float))
        # f' of an A that went to A·M and back, two roundings, and four more; f' and its derivative are at most 2
        np.testing.assert_allclose(
            buffer[m * n : 2 * m * n].reshape(m, n), expected, rtol=0, atol=8 * eps * np.abs(dA * M).max()
        )


def test_dropout_and_clipping_where_products_go_to_blas(monkeypatch, dtype):
    """Batches of several chunks, all or some layers by BLAS, against the oracle."""
    from briskmlp.backends import numba as backend

    for smallest, bias in ((1, "neuron"), (800, "layer")):
        monkeypatch.setattr(layout, "BLAS_FROM", 64 * smallest)
        monkeypatch.setattr(layout, "LARGEST_CHUNK", 64)
        case = build(
            [9, 17, 33, 2], hidden="sigmoid", dtype=dtype, n=300, batch_size=150, bias=bias, weighted=True, l2=0.2,
            dropout=[0.3, 0.5], clip_norm=0.5, optimizer=SGD(0.1, momentum=0.9),
        )  # fmt: skip
        assert backend.workspace(case.plan, case.dtype, case.n).layers["blas"].any()
        params, _, losses = case.train(backend, [0.1] * 5)
        expected, expected_losses = case.oracle_train([0.1] * 5)
        # ten steps move weights of order 1 by at most 0.1 · 0.5 / (1 - 0.9) each; what each rounds is some 100 u
        tolerance = 1e-12 if dtype == "float64" else 10 * 0.5 * 100 * float(np.finfo(dtype).eps)
        assert np.linalg.norm(params - expected) <= tolerance * np.linalg.norm(expected)
        np.testing.assert_allclose(losses, expected_losses, rtol=tolerance)


@njit
def clip_array(G, limit):
    clip(pointer(G), G.size, limit, 0.0)


def test_clip(dtype):
    """The squares of a float32 gradient do not overflow; what is not finite is not made finite."""
    eps, rng = np.finfo(dtype).eps, np.random.default_rng(0)
    for n in (0, 1, 3, 4, 5, 1001):
        G = rng.normal(size=n).astype(dtype)
        norm = np.sqrt((G.astype(float) ** 2).sum())
        for limit in (norm * 1.001, norm * 0.999, 0.1, 1e-30):
            got = G.copy()
            clip_array(got, limit)
            expected = G.astype(float) * min(1.0, limit / norm) if n else G
            np.testing.assert_allclose(got, expected, rtol=0 if limit > norm else 4 * eps)
    large = np.array([3e30, 4e30], dtype)
    clip_array(large, 5.0)
    np.testing.assert_allclose(large, [3.0, 4.0], rtol=4 * eps)
    for sick in (np.nan, np.inf):
        G = np.array([1.0, sick], dtype)
        clip_array(G, 1.0)
        assert not np.isfinite(G).all()


def test_offset_moves_by_numbers(dtype):
    @njit
    def second(x):
        return offset(pointer(x), 1)[0]

    assert second(np.array([1, 2, 3], dtype)) == 2


def can_run_avx2():
    features = llvm.get_host_cpu_features()
    return features.get("avx2", False) and features.get("fma", False)


# --- compilation and its cache ---------------------------------------------------------------------------------------


def test_nothing_is_compiled_in_parallel_or_with_fastmath():
    """parallel=True aborts the process when two Python threads train; options are set in one place."""
    for source in KERNELS.glob("*.py"):
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.keyword):
                assert node.arg != "parallel", source
            if isinstance(node, ast.Attribute) and source.name != "_options.py":
                assert node.attr not in {"njit", "jit", "vectorize", "guvectorize", "prange"}, source
    assert _options._OPTIONS["nogil"]
    assert not _options._OPTIONS["fastmath"]


def test_a_dtype_is_compiled_once_for_every_layout(dtype):
    """Read-only, strided and dense data all go to one signature; another would take ten seconds to compile.

    Profiles have a second one of ``train``, with a record; other tests may have compiled that.
    """
    from briskmlp import Trainer
    from briskmlp.backends.numba import epoch

    dense, strided = np.zeros((4, 2), dtype), np.zeros((8, 3), dtype)[::-2, 1:]
    frozen = np.zeros((4, 2), dtype)
    frozen.flags.writeable = False
    for X in (dense, strided, frozen):
        trainer = Trainer([2, 3, 2], loss="cross_entropy", dtype=dtype.name, backend="numba", seed=0)
        for Y, weight in ((X, None), (np.zeros(4, int), np.ones(4, dtype))):
            Y = np.full_like(X, 0.5) if Y is X else Y
            trainer.fit(X, Y, epochs=1, sample_weight=weight)
            trainer.predict(X)
            trainer.loss_and_gradient(X, Y, sample_weight=weight)
    for kernel in (epoch.forward, epoch.gradient, epoch.train):
        compiled = [list(map(str, each)) for each in kernel.overloads if each[2].dtype == numba.from_dtype(dtype)]
        if kernel is epoch.train:
            for arguments in compiled:
                del arguments[4]
        assert all(arguments == compiled[0] for arguments in compiled[1:])
        assert len(compiled) <= 1 + (kernel is epoch.train)


def test_the_last_width_is_whole_vecs(monkeypatch):
    """Losses write a row's Vecs and no more: AVX2 has 4 float64 a Vec, 8 rows a tile."""
    monkeypatch.setattr(layout, "lanes", lambda dtype: 4)
    case = build([5, 16, 16, 3])
    layers = layout.make_work(case.plan, case.dtype, case.n, training=True).layers
    assert layers["columns"].tolist() == [16, 16, 4]
    assert layers["rows"].tolist() == [8, 16, 16]


@pytest.mark.slow
@pytest.mark.skipif(not can_run_avx2(), reason="needs x86-64 with AVX2 and FMA")
def test_the_layout_of_avx2(tmp_path):
    """Vecs of 32 bytes pass the same tests; NUMBA_CPU_NAME alone would keep the host's features."""
    environment = {
        **os.environ, "NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+sse2,+sse4.2,+avx,+avx2,+fma",
        "NUMBA_CACHE_DIR": str(tmp_path),
    }  # fmt: skip
    code = "from briskmlp.backends.numba.vector import VECTOR_BYTES as n; assert n == 32"
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    tests = [str(Path(__file__).with_name(name)) for name in ("test_backends.py", "test_dropout.py")]
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-k", "not numpy", "-p", "no:cacheprovider", *tests]
    process = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stdout


TRAIN = """
import numpy as np
from briskmlp import Trainer
X = np.linspace(0, 1, 40).reshape(20, 2)
trainer = Trainer([2, 3, 1], backend="numba", seed=0)
trainer.fit(X, X[:, 0], epochs=2)
from briskmlp.backends.numba import activations, epoch
from briskmlp.backends.numba.update import move
for operation in activations.activate, activations.pull_back, move:
    assert [code for code, _ in operation._addresses] == [0]  # sigmoid, sgd
print(trainer.parameters.tobytes().hex(), bool(epoch.train.stats.cache_hits))
"""


def train_elsewhere(cache, **environment):
    """Train in a fresh process whose cache is in a directory; return (weights, whether the cache had the kernel)."""
    source = str(Path(_options.__file__).parents[3])
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": source, **environment}
    process = subprocess.run(
        [sys.executable, "-W", "error", "-c", TRAIN], env=environment, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    weights, hits = process.stdout.split()
    return weights, hits == "True"


@pytest.fixture
def copied_cache(tmp_path):
    """Return a directory with a copy of this machine's compiled kernels, so that nothing is compiled."""
    from briskmlp import Trainer

    if _options.CACHE is None:
        pytest.skip("no cache directory can be written to")
    Trainer([2, 3, 1], backend="numba", seed=0).fit(np.zeros((4, 2)), np.zeros(4), epochs=1)
    target = tmp_path / "cache" / "briskmlp" / _options.CACHE.name
    shutil.copytree(_options.CACHE, target)
    return tmp_path / "cache"


def test_the_cache_is_used(copied_cache):
    weights, hits = train_elsewhere(copied_cache)
    assert hits
    assert train_elsewhere(copied_cache) == (weights, True)


@pytest.mark.parametrize(
    "kind", [pytest.param("index", marks=pytest.mark.slow), "data", pytest.param("all", marks=pytest.mark.slow)]
)
def test_a_damaged_cache_is_made_again(copied_cache, kind):
    weights, _ = train_elsewhere(copied_cache)
    patterns = {"index": ["*.nbi"], "data": ["*.nbc"], "all": ["*.nbi", "*.nbc"]}[kind]
    files = [path for pattern in patterns for path in copied_cache.rglob(pattern)]
    assert files
    for path in files:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert train_elsewhere(copied_cache) == (weights, False)
    assert train_elsewhere(copied_cache) == (weights, True)


@pytest.mark.slow
def test_a_cache_that_cannot_be_written_is_done_without(tmp_path):
    (tmp_path / "file").write_text("not a directory")
    weights, hits = train_elsewhere(tmp_path / "file")
    assert not hits
    assert weights


def test_machine_code_that_cannot_be_kept_is_used_all_the_same(monkeypatch):
    @_options.entry
    def kernel(x):
        return x + 1

    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(kernel._cache, "save_overload", full)
    _options.compile_once(kernel, (numba.int64,))
    assert kernel(1) == 2


def test_where_the_cache_lies(monkeypatch, tmp_path):
    monkeypatch.setattr(_options.config, "CACHE_DIR", str(tmp_path / "numba"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert _options._cache_directory().parent == tmp_path / "numba" / "briskmlp"
    monkeypatch.setattr(_options.config, "CACHE_DIR", "")
    assert _options._cache_directory().parent == tmp_path / "xdg" / "briskmlp"
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert _options._cache_directory() is None


def test_machine_code_of_other_versions_is_removed_when_unused(monkeypatch, tmp_path):
    monkeypatch.setattr(_options.config, "CACHE_DIR", str(tmp_path))
    used, folder = _options._cache_directory(), tmp_path / "briskmlp"
    month_ago = time.time() - 31 * 86400
    names = [f"numba-{i:016x}" for i in range(3)]
    for name in (names[0], names[1], "numba-mine", "profiles"):
        (folder / name / "epoch_1").mkdir(parents=True)
        (folder / name / "epoch_1" / "kernel.nbc").write_text("")
    (folder / "machine.json").write_text("")
    (folder / names[2]).symlink_to("profiles")
    for path in folder.iterdir():
        if path.name != names[1]:
            os.utime(path, (month_ago, month_ago))
    assert _options._cache_directory() == used
    assert {path.name for path in folder.iterdir()} == {
        used.name, names[1], names[2], "numba-mine", "profiles", "machine.json",
    }  # fmt: skip
    assert [path.name for path in (folder / "profiles").rglob("*.nbc")] == ["kernel.nbc"]
    assert time.time() - used.stat().st_mtime < 86400  # it was used just now


def test_what_cannot_be_removed_is_left(monkeypatch, tmp_path):
    monkeypatch.setattr(_options.config, "CACHE_DIR", str(tmp_path))
    used = _options._cache_directory()
    other = used.parent / f"numba-{0:016x}"
    other.mkdir()
    os.utime(other, (0, 0))

    def refuse(*_, **__):
        raise PermissionError

    with monkeypatch.context() as patch:
        patch.setattr(os, "rmdir", refuse)
        assert _options._cache_directory() == used
        patch.setattr(os, "utime", refuse)
        assert _options._cache_directory() == used
    assert other.exists()


def test_machine_code_that_is_removed_while_it_is_used_is_made_again(monkeypatch, tmp_path):
    monkeypatch.setattr(_options, "CACHE", tmp_path / "cache")

    @_options.entry
    def kernel(x):
        return x + 1

    _options.compile_once(kernel, (numba.int64,))
    shutil.rmtree(tmp_path / "cache")
    _options.compile_once(kernel, (numba.float64,))
    assert (kernel(1), kernel(1.5)) == (2, 2.5)
    assert len([*(tmp_path / "cache").rglob("*.nbc")]) == 1


def test_a_kernel_without_a_cache_still_compiles(monkeypatch):
    monkeypatch.setattr(_options, "CACHE", None)

    @_options.entry
    def twice(x):
        return 2 * x

    assert twice(21) == 42


def test_the_digest_follows_every_source(monkeypatch, tmp_path):
    for source in KERNELS.glob("*.py"):
        shutil.copy(source, tmp_path)
    monkeypatch.setattr(_options, "__file__", str(tmp_path / "_options.py"))
    for module in _options.CONSTANTS:
        monkeypatch.setattr(module, "__file__", shutil.copy(module.__file__, tmp_path / f"_{module.__name__}.py"))
    digests = {_options._digest()}
    for source in sorted(tmp_path.glob("*.py")):
        source.write_text(source.read_text() + "\n")
        digests.add(_options._digest())
    assert len(digests) == 1 + len(list(tmp_path.glob("*.py")))


def test_a_kernel_that_fails_to_compile_calls_what_it_has(monkeypatch):
    """Other arguments are converted then, instead of being compiled for as well."""

    @_options.entry
    def kernel(x):
        return x + 1

    _options.compile_once(kernel, (numba.float64,))
    monkeypatch.setattr(_options, "_compile", lambda *_: (_ for _ in ()).throw(MemoryError))
    with pytest.raises(MemoryError):
        _options.compile_once(kernel, (numba.int64,))
    assert kernel(1) == 2.0
    assert list(kernel.overloads) == [(numba.float64,)]


ARRAYS = (numba.float64[::1],)


class Watched:
    """Numba's lock, which tells when a thread comes to it."""

    acquire, release, is_locked = (
        global_compiler_lock.acquire,
        global_compiler_lock.release,
        global_compiler_lock.is_locked,
    )

    def __init__(self):
        self.reached = threading.Event()

    def __enter__(self):
        self.reached.set()
        self.acquire()

    def __exit__(self, *_):
        self.release()


@pytest.fixture
def compiling(monkeypatch):
    """Return a kernel for float64 that a thread has begun to compile for arrays, and what lets it go on.

    ``join`` waits for that thread, and raises what it raised.
    """

    @_options.entry
    def kernel(x):
        return x + 1

    _options.compile_once(kernel, (numba.float64,))
    begun, go_on, errors = threading.Event(), threading.Event(), []

    def compile_it(kernel, signature):
        if signature == ARRAYS:
            begun.set()
            go_on.wait()
        kernel.compile(signature)

    def first():
        try:
            _options.compile_once(kernel, ARRAYS)
        except Exception as error:
            errors.append(error)

    def join():
        thread.join()
        for error in errors:
            raise error

    monkeypatch.setattr(_options, "_compile", compile_it)
    thread = threading.Thread(target=first)
    thread.start()
    begun.wait()
    yield kernel, go_on, join
    go_on.set()
    thread.join()


def test_a_thread_does_not_disable_what_another_compiles(compiling, monkeypatch):
    kernel, go_on, join = compiling
    lock = Watched()
    lock.reached = go_on
    monkeypatch.setattr(_options, "global_compiler_lock", lock)
    _options.compile_once(kernel, (numba.int64,))
    go_on.set()  # were there no lock
    join()
    assert set(kernel.overloads) == {(numba.float64,), ARRAYS, (numba.int64,)}
    assert not kernel._can_compile


def test_a_call_waits_for_what_another_thread_compiles(compiling, monkeypatch):
    """Numba takes it for one to compile for, waits for its lock, and then finds that it must not."""
    kernel, go_on, join = compiling
    lock = Watched()
    lock.reached = go_on
    monkeypatch.setattr(numba.core.dispatcher, "global_compiler_lock", lock)
    assert _options.call(kernel, 1) == 2
    join()
    assert set(kernel.overloads) == {(numba.float64,), ARRAYS}


def test_ctrl_c_while_another_thread_compiles(compiling, monkeypatch):
    """It is answered before that thread is done, and leaves no lock behind."""
    kernel, go_on, join = compiling
    lock, main, answered = Watched(), threading.get_ident(), threading.Event()

    def handler(*_):
        if not answered.is_set():
            answered.set()
            raise KeyboardInterrupt

    def interrupt():
        lock.reached.wait()
        for _ in range(400):  # one just before a thread begins to wait does not wake it
            signal.pthread_kill(main, signal.SIGINT)
            if answered.wait(0.05):
                return
        go_on.set()

    monkeypatch.setattr(_options, "global_compiler_lock", lock)
    kept = signal.signal(signal.SIGINT, handler)
    interrupting = threading.Thread(target=interrupt)
    try:
        interrupting.start()
        with pytest.raises(KeyboardInterrupt):
            _options.compile_once(kernel, (numba.int64,))
        interrupting.join()
        assert not go_on.is_set()
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, kept)
    assert not global_compiler_lock.is_locked()
    go_on.set()
    join()
    assert set(kernel.overloads) == {(numba.float64,), ARRAYS}


def test_ctrl_c_while_compiling_is_answered_afterwards(monkeypatch):
    @_options.entry
    def kernel(x):
        return x + 1

    def compile_it(kernel, signature):
        signal.raise_signal(signal.SIGINT)
        kernel.compile(signature)

    monkeypatch.setattr(_options, "_compile", compile_it)
    with pytest.raises(KeyboardInterrupt):
        _options.compile_once(kernel, (numba.int64,))
    assert list(kernel.overloads) == [(numba.int64,)]
    assert not global_compiler_lock.is_locked()


FORK = """
import os, sys, threading, warnings
from numba.core.compiler_lock import global_compiler_lock
import briskmlp.backends.numba
warnings.simplefilter("ignore", DeprecationWarning)  # Python's own, about forks beside threads
begun, forking = threading.Event(), threading.Event()
def compile():
    with global_compiler_lock:
        begun.set()
        forking.wait()
threading.Thread(target=compile).start()
begun.wait()
os.register_at_fork(before=forking.set)  # the last one registered is the first one called
pid = os.fork()
if not pid:
    threading.Timer(20, os._exit, [3]).start()
    with global_compiler_lock:
        os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_waits_for_what_is_being_compiled():
    source = str(Path(_options.__file__).parents[3])
    environment = {**os.environ, "PYTHONPATH": source}
    done = subprocess.run([sys.executable, "-c", FORK], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
