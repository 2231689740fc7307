"""How much faster than scikit-learn's estimators are ours, at the same work?

Each class has a warm process of its own, and they take strict turns. Before any time counts, both must have the same
results. The ratio is the median of neighbouring turns'.

    python bench/bench_sklearn.py                     # all cases
    python bench/bench_sklearn.py digits predict-one  # some

``grid`` compares two jobs with one, and ``overhead`` is what a fit of one epoch on 200 rows costs beside kernels and
scikit-learn's own code; both are of ours alone.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import time
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from duel import THREAD_LIMITS

MNIST = Path(__file__).parents[1] / "tests/data/mnist_5k.csv.gz"


class Case(NamedTuple):
    """One comparison: what is fitted, on what, and what is timed."""

    kind: str  # MLPClassifier or MLPRegressor
    data: str
    parameters: dict[str, Any]
    timed: str = "fit"  # or predict
    rows: int | None = None  # that are predicted
    repeats: int = 1
    tolerance: float = 1e-6  # of results, norm-wise: round-off grows over the epochs


EPOCHS = {"n_iter_no_change": 1000, "random_state": 0}  # no stopping before max_iter
CASES = {
    "digits": Case("MLPClassifier", "digits", {"max_iter": 100, **EPOCHS}),
    "mnist-float32": Case("MLPClassifier", "mnist float32", {"max_iter": 10, **EPOCHS}, tolerance=1e-2),
    "mnist-float64": Case("MLPClassifier", "mnist float64", {"max_iter": 10, **EPOCHS}),
    "table": Case(
        "MLPRegressor", "table", {"hidden_layer_sizes": (64, 64), "batch_size": 200, "max_iter": 10, **EPOCHS}
    ),
    # Few iterations: line searches tell last bits apart in the end.
    "lbfgs": Case("MLPClassifier", "digits", {"solver": "lbfgs", "max_iter": 30, "random_state": 0}, tolerance=1e-3),
    "sparse": Case("MLPClassifier", "sparse", {"max_iter": 1, **EPOCHS}),
    "predict-one": Case("MLPClassifier", "digits", {"max_iter": 2, **EPOCHS}, "predict", 1, 2000),
    "predict-100k": Case("MLPClassifier", "digits", {"max_iter": 2, **EPOCHS}, "predict", 100_000, 2),
}
OURS, THEIRS = "briskmlp", "scikit-learn"


@cache
def data(name: str) -> tuple[Any, Any]:
    """Return X and y."""
    rng = np.random.default_rng(0)
    if name == "digits":
        from sklearn.datasets import load_digits

        X, y = load_digits(return_X_y=True)
        return X / 16, y
    if name.startswith("mnist"):
        table = np.loadtxt(MNIST, delimiter=",", dtype=np.float64)
        return (table[:, :-1] / 255).astype(name.split()[1]), table[:, -1].astype(int)
    if name == "sparse":
        from scipy import sparse

        return sparse.random_array((20_000, 50_000), density=0.001, rng=rng, format="csr"), rng.integers(0, 5, 20_000)
    X = rng.standard_normal((20_000, 10))
    return X, np.sin(X @ rng.standard_normal(10))


def contestant(library: str, kind: str) -> Any:
    if library == OURS:
        import briskmlp

        return getattr(briskmlp, kind)
    from sklearn.neural_network import _multilayer_perceptron

    return getattr(_multilayer_perceptron, kind)


def serve(library: str, requests: Any) -> None:
    """Answer requests of a case and what to do, in a process of its own."""
    warnings.simplefilter("ignore")  # of convergence
    prepared: dict[str, tuple[Callable[[], Any], int]] = {}
    while request := requests.recv():
        name, do = request
        if name not in prepared:
            prepared = {name: prepare(library, CASES[name])}
        call, repeats = prepared[name]
        if do == "result":
            requests.send(result(call()))
            continue
        start = time.perf_counter()
        for _ in range(repeats):
            call()
        seconds = time.perf_counter() - start
        time.sleep(0.12)  # OpenBLAS's threads spin for as long, and the other's turn begins with our answer
        requests.send(seconds / repeats)


def prepare(library: str, case: Case) -> tuple[Callable[[], Any], int]:
    X, y = data(case.data)
    cls = contestant(library, case.kind)
    if case.timed == "fit":
        return (lambda: cls(**case.parameters).fit(X, y)), case.repeats
    estimator = cls(**case.parameters).fit(X, y)
    rows = np.resize(X, (case.rows, X.shape[1]))
    return (lambda: estimator.predict(rows)), case.repeats


def result(outcome: Any) -> list[Any]:
    """Return what must be the same: predictions, or all that was learned."""
    if isinstance(outcome, np.ndarray):
        return [outcome]
    return [np.asarray(getattr(outcome, "loss_curve_", outcome.loss_)), *outcome.coefs_, *outcome.intercepts_]


def duel(name: str, workers: dict[str, Any], pairs: int) -> None:
    case = CASES[name]

    def ask(library: str, do: str) -> Any:
        workers[library].send((name, do))
        return workers[library].recv()

    results = [ask(library, "result") for library in (THEIRS, OURS)]
    for theirs, ours in zip(*results, strict=True):
        difference = float(np.linalg.norm(ours.astype(float) - theirs) / max(np.linalg.norm(theirs), 1e-300))
        if not difference <= case.tolerance:
            raise SystemExit(f"{name}: results differ by {difference:.2g}, more than {case.tolerance:g}")
    times = [(ask(THEIRS, "time"), ask(OURS, "time")) for _ in range(pairs)]
    theirs, ours = (statistics.median(column) for column in zip(*times, strict=True))
    ratios = [a / b for a, b in times]
    low, _, high = statistics.quantiles(ratios, n=4) if pairs > 1 else ratios * 3
    best = min(a for a, _ in times) / min(b for _, b in times)
    ratio = statistics.median(ratios)
    print(f"{name:14}{theirs * 1e3:12.4g}{ours * 1e3:12.4g}{ratio:9.3g}{low:9.3g} …{high:6.3g}{best:9.3g}")


def grid(pairs: int) -> None:
    """Time a search of 8 fits with one job and with two, threads of one process, each fit with one thread."""
    import joblib
    from sklearn.model_selection import GridSearchCV

    X, y = data("digits")
    estimator = contestant(OURS, "MLPClassifier")(max_iter=100, n_threads=1, **EPOCHS)

    def seconds(n_jobs: int) -> float:
        with joblib.parallel_backend("threading"):
            start = time.perf_counter()
            GridSearchCV(estimator, {"alpha": [1e-5, 1e-4, 1e-3, 1e-2]}, cv=2, n_jobs=n_jobs, refit=False).fit(X, y)
        return time.perf_counter() - start

    seconds(2)
    times = [(seconds(1), seconds(2)) for _ in range(pairs)]
    one, two = (statistics.median(column) for column in zip(*times, strict=True))
    print(f"grid: 8 fits, one job {one:.3f} s, two {two:.3f} s, ratio {statistics.median(a / b for a, b in times):.3g}")


def overhead(pairs: int) -> None:
    """Time what a fit of one epoch on 200 rows adds to its kernels and to scikit-learn's code."""
    from briskmlp.estimators.perceptron import Perceptron
    from briskmlp.session import Session

    X, y = data("digits")
    spent = {"ours": 0.0, "kernels": 0.0}

    def timed(method: Callable[..., Any], name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            start = time.perf_counter()
            try:
                return method(*arguments, **keywords)
            finally:
                spent[name] += time.perf_counter() - start

        return call

    Perceptron._fit_stochastic = timed(Perceptron._fit_stochastic, "ours")
    Session.run = timed(Session.run, "kernels")  # type: ignore[method-assign] # a clock around it, in this process alone
    costs = []
    for _ in range(20 * pairs):
        spent.update(ours=0.0, kernels=0.0)
        contestant(OURS, "MLPClassifier")(max_iter=1, random_state=0).fit(X[:200], y[:200])
        costs.append((spent["ours"] - spent["kernels"]) * 1e3)
    print(f"overhead: one epoch of 200 rows, {statistics.median(costs):.3f} ms beside kernels and scikit-learn")


def bench_estimators_run() -> None:
    """One turn of a short case, so that this file is known to work."""
    run(["predict-one"], pairs=1, threads=1)


def run(names: list[str], pairs: int, threads: int) -> None:
    os.environ.update(dict.fromkeys(THREAD_LIMITS, str(threads)))
    affinity = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    if affinity:
        os.sched_setaffinity(0, sorted(affinity)[:threads])  # children inherit it before they load a library
    spawn, workers = multiprocessing.get_context("spawn"), {}
    processes = []
    try:
        for library in (THEIRS, OURS):
            workers[library], requests = spawn.Pipe()
            processes.append(spawn.Process(target=serve, args=(library, requests), daemon=True))
            processes[-1].start()
        print(f"{threads} threads, {pairs} pairs; ms, and the ratio of scikit-learn's time to ours")
        print(f"{'':14}{THEIRS:>12}{OURS:>12}{'ratio':>9}{'quartiles':>17}{'of best':>9}")
        for name in names:
            if name in CASES:
                duel(name, workers, pairs)
    finally:
        for process in processes:
            process.kill()
            process.join()
        if affinity:
            os.sched_setaffinity(0, affinity)
    warnings.simplefilter("ignore")
    if "grid" in names:
        grid(pairs)
    if "overhead" in names:
        overhead(pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("cases", nargs="*", help=f"some of {', '.join([*CASES, 'grid', 'overhead'])}; default all")
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    run(options.cases or [*CASES, "grid", "overhead"], options.pairs, options.threads)


if __name__ == "__main__":
    main()
