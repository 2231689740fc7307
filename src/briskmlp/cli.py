"""The command line: ``briskmlp demo | train | predict | info``.

Results go to stdout, notes and progress to stderr. With ``--json`` stdout gets exactly one JSON object, which is
``{"error": "…"}`` when something fails. Exit codes: 0 done; 1 training failed: it diverged or memory ran out; 2 wrong
arguments or data; 130 Ctrl-C; 141 the reader of the output went away.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import itertools
import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

# --help and wrong arguments must answer at once: NumPy and all that needs it are imported inside the commands.
if TYPE_CHECKING:
    from numpy.typing import NDArray

    from briskmlp.table import Preparation, Table
    from briskmlp.trainer import Trainer

# Repeated here so that they are checked before anything is imported or read; tests hold them to the library's lists.
BACKENDS = ("auto", "native", "numba", "numpy")
OPTIMIZERS = ("SGD", "Adam", "AdamW", "RMSprop")
ACTIVATIONS = ("sigmoid", "tanh", "relu", "identity")
DTYPES = ("float32", "float64")

PREPARATION = "table"  # the key of the preparation of columns in a model's configuration
SPLIT_STREAM = 2**64 - 1  # an epoch that no training reaches: its sample order splits the rows

INTERRUPTED, BROKEN_PIPE = 130, 141


class Result(NamedTuple):
    """What a command prints: ``report`` with --json, else ``text``."""

    report: dict[str, Any]
    text: str


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; default ``sys.argv[1:]``.

    Examples
    --------
    >>> main(["predict", "--json"])
    {"error": "the following arguments are required: model, data (see briskmlp predict --help)"}
    2
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        code, result = _run(arguments)
        if result is not None:  # argparse may have failed before it saw --json
            _write(json.dumps(result.report) + "\n" if "--json" in arguments else result.text)
    except KeyboardInterrupt:
        _abandon_stdout()
        return INTERRUPTED
    except BrokenPipeError:
        _abandon_stdout()
        return BROKEN_PIPE
    except OSError as error:
        _abandon_stdout()
        _note(f"briskmlp: error: cannot write the output: {error.strerror}")
        return 2
    return code


def _run(arguments: list[str]) -> tuple[int, Result | None]:
    """Parse the arguments and run the command; turn what fails into an exit code and one line on stderr."""
    try:
        args = _parser().parse_args(arguments)
        return 0, args.command(args)
    except SystemExit as stop:  # --help and --version
        return int(stop.code or 0), None
    except BrokenPipeError:
        raise
    except KeyboardInterrupt:
        code, message = INTERRUPTED, "interrupted"
    except (FloatingPointError, MemoryError) as error:
        code, message = 1, str(error) or "out of memory"
    except OSError as error:
        code, message = 2, f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error)
    except ValueError as error:
        code, message = 2, str(error)
    message = " ".join(message.split())
    _note(f"briskmlp: {message}" if code == INTERRUPTED else f"briskmlp: error: {message}")
    return code, Result({"error": message}, "")


# Arguments


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Raise instead of exiting, so that --json has its object for this error as well."""
        raise ValueError(f"{message} (see {self.prog} --help)")


class _Version(argparse.Action):
    """Look the version up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        _write(f"briskmlp {_version('briskmlp') or 'is not installed'}\n")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="briskmlp", description="Train dense neural networks on the CPU.", allow_abbrev=False)
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = _command(commands, "demo", _demo, "train on scikit-learn's digits, and compare with scikit-learn")
    demo.add_argument("--epochs", type=_integer(1), default=30, help="default: %(default)s")
    demo.add_argument("--seed", type=_integer(0), default=0, help="default: %(default)s")
    _add_machine(demo)

    train = _command(commands, "train", _train, "train on a CSV or NPZ file")
    _add_data(train)
    _add_training(train)
    _add_machine(train)

    predict = _command(commands, "predict", _predict, "predict the rows of a CSV or NPZ file with a trained model")
    predict.add_argument("model", type=Path, help="what `briskmlp train --out` wrote")
    predict.add_argument("data", type=Path, help="CSV or NPZ; columns are found by name, others are ignored")
    predict.add_argument("--out", type=Path, metavar="FILE", help="write the predictions here as CSV, not to stdout")
    _add_machine(predict)

    _command(commands, "info", _info, "show versions, backends, instruction sets and threads")
    return parser


def _command(commands: Any, name: str, run: Callable[[argparse.Namespace], Result], text: str) -> Any:
    # Abbreviated options would break when an option is added, and --js would not be seen as --json.
    parser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", allow_abbrev=False)
    parser.set_defaults(command=run)
    parser.add_argument("--json", action="store_true", help="print one JSON object to stdout and nothing else")
    return parser


def _add_data(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("data")
    group.add_argument(
        "data",
        type=Path,
        metavar="DATA",
        help="CSV with a header row and , ; or tab between cells; or NPZ with the arrays X and y",
    )
    group.add_argument("--target", metavar="COLUMN", help="name or index (from 0) of the target; for NPZ default: y")
    group.add_argument("--ignore", type=_names, default=[], metavar="COLUMNS", help="columns to leave out: id,name")
    group.add_argument(
        "--text", type=_names, default=[], metavar="COLUMNS", help="numbers that are categories: zip,year"
    )
    group.add_argument(
        "--task",
        choices=("classification", "regression"),
        help="default: regression if the target's values are numbers, else classification",
    )
    group.add_argument(
        "--test-share", type=_share, default=0.2, metavar="SHARE", help="rows held out for the score; default: 0.2"
    )
    group.add_argument("--out", type=Path, metavar="FILE", help="write the model here, such as model.safetensors")


def _add_training(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("training")
    group.add_argument(
        "--hidden", type=_widths, default=[100], metavar="WIDTHS", help="such as 100,50, or none; default: 100"
    )
    group.add_argument("--activation", choices=ACTIVATIONS, default="relu", help="default: %(default)s")
    group.add_argument("--epochs", type=_integer(1), default=100, help="default: %(default)s")
    group.add_argument("--batch-size", type=_integer(1), default=32, help="default: %(default)s")
    group.add_argument("--optimizer", choices=OPTIMIZERS, default="Adam", help="default: %(default)s")
    group.add_argument("--learning-rate", type=float, metavar="RATE", help="default: the optimizer's")
    group.add_argument("--seed", type=_integer(0), default=0, help="of the split and the training; default: 0")
    group.add_argument("--dtype", choices=DTYPES, default="float32", help="default: %(default)s")


def _add_machine(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("machine")
    group.add_argument("--backend", choices=BACKENDS, default="auto", help="default: %(default)s")
    group.add_argument("--threads", type=_integer(1), help="an upper bound; default: what the machine allows")


def _integer(low: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if text.isdecimal() and low <= int(text) < 2**63:
            return int(text)
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number >= {low}")

    return parse


def _share(text: str) -> float:
    try:
        if 0 <= (share := float(text)) < 1:
            return share
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is not a number >= 0 and < 1")


def _widths(text: str) -> list[int]:
    return [] if text == "none" else [_integer(1)(width.strip()) for width in text.split(",")]


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


# train


def _train(args: argparse.Namespace) -> Result:
    import numpy as np

    from briskmlp import optimizers, table
    from briskmlp.random import sample_order
    from briskmlp.trainer import Trainer

    optimizer = getattr(optimizers, args.optimizer)
    optimizer = optimizer() if args.learning_rate is None else optimizer(args.learning_rate)
    target_array = args.target or "y" if args.data.suffix.lower() == ".npz" else None
    if args.target is None and target_array is None:
        raise ValueError("--target is missing: the name or index of the column to predict")
    _check_folder(args.out)

    columns = table.read(args.data, lambda names: _choose(names, args, args.target or "y"), target_array)
    target = list(columns)[-1]
    n = len(columns[target])
    n_test = max(round(args.test_share * n), int(args.test_share > 0))
    if n_test >= n:
        raise ValueError(f"{args.data}: of {n} rows, --test-share {args.test_share:g} leaves none to train on")
    order = sample_order(args.seed, SPLIT_STREAM, n)
    test, training = np.sort(order[:n_test]), np.sort(order[n_test:])

    preparation = table.Preparation.fit(columns, target, training)
    _check_task(preparation, columns, args)
    X, Y = preparation.inputs(columns, args.dtype), preparation.targets(columns)
    classes = preparation.classes
    trainer = Trainer(
        [preparation.n_in, *args.hidden, preparation.n_out],
        hidden=args.activation,
        output="softmax" if classes else "identity",
        loss="cross_entropy" if classes else "mse",
        optimizer=optimizer,
        batch_size=args.batch_size,
        seed=args.seed,
        dtype=args.dtype,
        backend=args.backend,
        threads=args.threads,
    )
    _note(_describe_data(args.data, preparation, n, n_test))
    _note(f"training {' -> '.join(map(str, trainer.network.layers))} on the {trainer.backend} backend")
    start = perf_counter()
    history = trainer.fit(X[training], Y[training], epochs=args.epochs)
    seconds = perf_counter() - start
    if args.out is not None:
        _save(args.out, trainer, preparation)
    report = {
        "task": "classification" if classes else "regression",
        "target": target,
        "classes": classes,
        "features": [feature.name for feature in preparation.features],
        "layers": trainer.network.layers,
        "backend": trainer.backend,
        "training_rows": len(training),
        "test_rows": n_test,
        "epochs": args.epochs,
        "seconds": round(seconds, 6),
        "loss": history.loss[-1],
        "test_loss": trainer.evaluate(X[test], Y[test]) if n_test else None,
        **_score(trainer, preparation, X[test], columns[target][test]),
        "model": None if args.out is None else str(args.out),
    }
    return Result(report, _describe_training(report))


def _choose(names: list[str], args: argparse.Namespace, wanted: str) -> dict[str, str | None]:
    """Return the columns to read for training, the target last."""
    from briskmlp.table import NUMBER, TEXT, find_column

    target = find_column(names, wanted, "--target")
    ignored = {find_column(names, name, "--ignore") for name in args.ignore}
    text = {find_column(names, name, "--text") for name in args.text}
    kinds = {name: TEXT if name in text else None for name in names if name not in ignored | {target}}
    if not kinds:
        raise ValueError(f"{args.data} has no column to learn from besides the target {target!r}")
    kind = TEXT if target in text else None
    return {**kinds, target: {"classification": TEXT, "regression": NUMBER}.get(args.task, kind)}


def _check_folder(path: Path | None) -> None:
    """Find out before hours of training, not after, that a file cannot be written there."""
    if path is not None and (path.is_dir() or not os.access(path.parent, os.W_OK)):
        raise ValueError(f"--out is {str(path)!r}, which cannot be written; accepted: a file in an existing folder")


def _check_task(preparation: Preparation, columns: Table, args: argparse.Namespace) -> None:
    target = preparation.target.name
    if preparation.classes is None:
        values = set(columns[target].tolist())
        if args.task is None and len(values) <= 20 and all(value.is_integer() for value in values):
            _note(f"target {target!r} is numeric: regression; --task classification makes {len(values)} classes of it")
    elif len(preparation.classes) < 2:
        raise ValueError(
            f"target {target!r} is {preparation.classes[0]!r} in every row; classification needs 2 classes"
        )


def _save(path: Path, trainer: Trainer, preparation: Preparation) -> None:
    from briskmlp import checkpoint

    configuration = {**trainer.configuration, PREPARATION: preparation.to_json()}
    checkpoint.write(path, trainer.network, trainer.parameters, configuration)


def _score(trainer: Trainer, preparation: Preparation, X: NDArray[Any], target: NDArray[Any]) -> dict[str, Any]:
    """Return the accuracy, or R² and the mean absolute error in the target's own units; None where undefined."""
    if not len(X):
        return {"accuracy": None} if preparation.classes else {"r2": None, "mae": None}
    A = trainer.predict(X)
    if preparation.classes:
        return {"accuracy": float((_labels(A, preparation.classes) == target).mean())}
    error = preparation.original_units(A) - target
    spread = float(((target - target.mean()) ** 2).sum())
    return {
        "r2": 1 - float((error**2).sum()) / spread if spread else None,
        "mae": float(abs(error).mean()),
    }


def _labels(A: NDArray[Any], classes: Sequence[str]) -> NDArray[Any]:
    import numpy as np

    labels: NDArray[Any] = np.array(classes, dtype=object)[A.argmax(axis=1)]
    return labels


def _describe_data(path: Path, preparation: Preparation, n: int, n_test: int) -> str:
    texts = [feature for feature in preparation.features if feature.categories is not None]
    goal = f"{len(preparation.classes)} classes" if preparation.classes else "a number"
    return (
        f"{path}: {n} rows, {n_test} of them held out; columns: {len(preparation.features) - len(texts)} of numbers, "
        f"{len(texts)} of text; inputs: {preparation.n_in}; target: {preparation.target.name!r}, {goal}"
    )


def _describe_training(report: dict[str, Any]) -> str:
    unit = "" if report["classes"] else " (squared error of the standardised target)"
    lines = [f"loss      {report['loss']:.4g} in the last epoch{unit}"]
    if report["test_rows"]:
        rows = f"on {report['test_rows']} held-out rows"
        lines.append(f"          {report['test_loss']:.4g} {rows}")
        if report["classes"]:
            lines.append(f"accuracy  {report['accuracy']:.2%} {rows}")
        else:
            r2 = "undefined, the target is constant" if report["r2"] is None else f"{report['r2']:.4f}"
            lines += [f"R2        {r2} {rows}", f"mae       {report['mae']:.4g} {rows}"]
    lines.append(
        f"time      {report['seconds']:.2f} s for {report['epochs']} epochs, first loading of kernels included"
    )
    lines.append(f"model     {report['model'] or 'not kept; --out FILE writes it'}")
    return "\n".join(lines) + "\n"


# predict


def _predict(args: argparse.Namespace) -> Result:
    from briskmlp import checkpoint, table
    from briskmlp.trainer import Trainer

    _check_folder(args.out)
    configuration = checkpoint.read(args.model)[2]
    if PREPARATION not in configuration:
        raise ValueError(
            f"{args.model} has no columns: it is not from `briskmlp train`; Trainer.load reads it in Python"
        )
    preparation = table.Preparation.from_json(configuration[PREPARATION])
    trainer = Trainer.load(args.model, backend=args.backend, threads=args.threads)
    if (preparation.n_in, preparation.n_out) != (trainer.network.n_in, trainer.network.n_out):
        raise ValueError(f"{args.model} is damaged: its columns do not fit its network")
    columns = table.read(args.data, preparation.choose, preparation.target.name)
    A = trainer.predict(preparation.inputs(columns, trainer.dtype.name))

    classes = preparation.classes
    values = A.astype(str) if classes else preparation.original_units(A).astype(str)  # shortest that round-trips
    predictions = _labels(A, classes).tolist() if classes else values.tolist()
    report: dict[str, Any] = {"target": preparation.target.name, "rows": len(A)}
    if args.out is None:
        report["predictions"] = predictions if classes else [float(value) for value in predictions]
        if classes:
            report |= {"classes": classes, "probabilities": [[float(value) for value in row] for row in values]}
    header = ["prediction", *(f"probability_{name}" for name in classes or ())]
    rows = ([label, *row] for label, row in zip(predictions, values.reshape(len(A), -1), strict=True))
    text = _csv(header, rows if classes else ([value] for value in predictions))
    if args.out is not None:
        args.out.write_text(text, encoding="utf-8", newline="")
        report["out"] = str(args.out)
        text = f"wrote {len(A)} predictions to {args.out}\n"
    return Result(report, text)


def _csv(header: list[str], rows: Any) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


# demo


def _demo(args: argparse.Namespace) -> Result:
    import statistics

    import numpy as np
    from sklearn.datasets import load_digits

    from briskmlp.backends.threads import thread_limit

    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)
    held_out = np.arange(len(X)) % 5 == 0
    work = X[~held_out], y[~held_out]
    threads = thread_limit(args.threads)

    def train(epochs: int) -> tuple[float, Any, Any]:
        from briskmlp.optimizers import Adam
        from briskmlp.trainer import Trainer

        start = perf_counter()
        trainer = Trainer(
            [64, 100, 10],
            hidden="relu",
            loss="cross_entropy",
            optimizer=Adam(1e-3),
            seed=args.seed,
            backend=args.backend,
            threads=threads,
        )
        history = trainer.fit(*work, epochs=epochs, progress=False)
        return perf_counter() - start, trainer, history

    def warm_up() -> float:
        start = perf_counter()
        train(1)[1].predict(X)
        return perf_counter() - start

    _note("warming up: kernels are compiled in the very first run, which may take half a minute, and loaded later")
    first, second = warm_up(), warm_up()
    _train_rival(*work, 1, args.seed, threads)
    _note(f"training {args.epochs} epochs, three times each, taking turns")
    ours, theirs = [], []
    for _ in range(3):
        seconds, trainer, history = train(args.epochs)
        ours.append(seconds)
        seconds, rival = _train_rival(*work, args.epochs, args.seed, threads)
        theirs.append(seconds)
    report = {
        "training_rows": len(work[0]),
        "test_rows": int(held_out.sum()),
        "layers": trainer.network.layers,
        "backend": trainer.backend,
        "threads": threads,
        "batch_size": trainer.batch_size,
        "epochs": args.epochs,
        "first_call_seconds": round(first, 6),
        "compile_seconds": round(max(first - second, 0.0), 6),
        "seconds": round(statistics.median(ours), 6),
        "sklearn_seconds": round(statistics.median(theirs), 6),
        "sklearn_version": _version("scikit-learn"),
        "accuracy": float((trainer.predict(X[held_out]).argmax(axis=1) == y[held_out]).mean()),
        "sklearn_accuracy": float(rival.score(X[held_out], y[held_out])),
        "loss": list(history.loss),
    }
    return Result(report, _describe_demo(report))


def _train_rival(X: NDArray[Any], y: NDArray[Any], epochs: int, seed: int, threads: int) -> tuple[float, Any]:
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    from briskmlp.backends.threads import blas_threads

    rival = MLPClassifier(
        (100,),
        alpha=0.0,
        batch_size=32,
        learning_rate_init=1e-3,
        max_iter=epochs,
        n_iter_no_change=epochs + 1,  # it would stop early otherwise
        random_state=seed % 2**32,
    )
    with warnings.catch_warnings(), blas_threads(threads):
        warnings.simplefilter("ignore", ConvergenceWarning)  # all epochs are meant to be run
        start = perf_counter()
        rival.fit(X, y)
        return perf_counter() - start, rival


def _describe_demo(report: dict[str, Any]) -> str:
    ratio = report["sklearn_seconds"] / report["seconds"]
    width = min(72, shutil.get_terminal_size().columns)
    return f"""\
Handwritten digits of 8 x 8 pixels: {report["training_rows"]} to train on, {report["test_rows"]} held out.
Network 64 -> 100 relu -> 10 softmax, cross-entropy, Adam 0.001,
batches of {report["batch_size"]}, {report["epochs"]} epochs, float32; {report["backend"]} backend.

Loss on the training rows, epochs 1 to {report["epochs"]}:
{plot(report["loss"], width, _can_print(BLOCKS))}

                       briskmlp     scikit-learn {report["sklearn_version"]}
held-out accuracy   {report["accuracy"]:11.1%}     {report["sklearn_accuracy"]:.1%}
training time       {report["seconds"]:9.3f} s     {report["sklearn_seconds"]:.3f} s
briskmlp is {ratio:.1f} times as fast as scikit-learn.

Both do the same work: MLPClassifier has the same layers, optimizer,
batches, epochs and float32, no penalty and no early stopping. Both may
use {_count(report["threads"], "thread")}. Medians of three runs in turns, after a warm-up.
Not in these times: briskmlp's first fit and predict, of one epoch, took
{report["first_call_seconds"]:.2f} s, of which {report["compile_seconds"]:.2f} s to import and compile its
kernels, or to load them from the cache of an earlier run.
"""


BLOCKS = " ▁▂▃▄▅▆▇█"


def plot(values: Sequence[float], width: int = 72, blocks: bool = True, height: int = 8) -> str:
    """Draw positive numbers as columns that start at 0.

    Parameters
    ----------
    values : sequence of float
    width : int
        Columns of text; neighbouring values share a column, as their mean, when they are too many.
    blocks : bool
        Draw with Unicode's eighths of a block, else with ``#``.
    height : int
        Lines of text.

    Examples
    --------
    >>> print(plot([4, 2, 1], width=16, blocks=False, height=2))
         4 |##
         0 |######
    """
    room = max(width - 8, 1)
    if len(values) > room:
        edges = [len(values) * i // room for i in range(room + 1)]
        values = [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
    top = max(values)
    stretch = max(1, min(room // len(values), 4))
    lines = []
    for line in reversed(range(height)):
        label = f"{top:.3g}" if line == height - 1 else "0" if line == 0 else ""
        cells = "".join(_block(value / (top or 1) * height - line, blocks) * stretch for value in values)
        lines.append(f"{label:>6} |{cells}".rstrip())
    return "\n".join(lines)


def _block(part: float, blocks: bool) -> str:
    """Return the character of a column that fills this part of a line."""
    part = min(max(part, 0.0), 1.0)
    return BLOCKS[round(part * 8)] if blocks else " #"[part >= 0.5]


# info


def _info(_: argparse.Namespace) -> Result:
    import platform

    from briskmlp.backends import dispatch, native
    from briskmlp.backends.threads import thread_limit

    names = ("briskmlp", "numpy", "numba", "scipy", "scikit-learn", "safetensors")
    versions = {name: _version(name) for name in names}
    report = {
        "version": versions["briskmlp"],
        "backends": {
            name: {"available": reason is None, "reason": reason} for name, reason in dispatch.backends().items()
        },
        "extension": {"available": native.reason() is None, "reason": native.reason()},
        "isas": native.isas(),
        "threads": thread_limit(None),
        "environment": {name: value for name, value in os.environ.items() if name.startswith("BRISKMLP_")},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions,
    }
    return Result(report, _describe_info(report))


def _describe_info(report: dict[str, Any]) -> str:
    lines = [f"briskmlp {report['version']}", "", "backends, fastest first"]
    lines += [f"  {name:<8} {state['reason'] or 'available'}" for name, state in report["backends"].items()]
    isas = " ".join(report["isas"]) or f"unknown: {report['extension']['reason']}"
    lines += ["", f"instruction sets  {isas}", f"threads           {report['threads']}"]
    lines += [f"{name:<17} {value}" for name, value in report["environment"].items()]
    lines += [f"python            {report['python']}", f"platform          {report['platform']}"]
    lines += [f"{name:<17} {value}" for name, value in report["versions"].items() if name != "briskmlp"]
    return "\n".join(lines) + "\n"


def _version(distribution: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


# Output


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _note(text: str) -> None:
    with contextlib.suppress(OSError):  # nobody reads it any more: no reason to stop a training
        if sys.stderr is not None:  # closed; print would turn to stdout
            print(text, file=sys.stderr)


def _write(text: str) -> None:
    if sys.stdout is None:  # closed
        return
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
    sys.stdout.flush()


def _can_print(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _abandon_stdout() -> None:
    """Lead stdout nowhere: the interpreter flushes it once more at exit, which must not fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
