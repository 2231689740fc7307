"""The command line: ``briskmlp demo | train | predict | profile | info``.

Results go to stdout, notes and progress to stderr. With ``--json`` stdout gets exactly one JSON object, which is
``{"error": "…"}`` when something fails. Exit codes: 0 done; 1 training failed: it diverged or memory ran out; 2 wrong
arguments or data; 130 Ctrl-C; 141 the reader of the output went away.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from briskmlp._console import Result, abandon_stdout, note, write
from briskmlp.operations.activations import HIDDEN, check_activation
from briskmlp.operations.rules import OPTIMIZERS

# Repeated here so that they are checked before anything else is imported or read; tests hold them to the library's
# lists. Activations and optimizers are those of the tables, which need NumPy alone.
BACKENDS = ("auto", "native", "numba", "numpy")
DTYPES = ("float32", "float64")
PRECISIONS = ("highest", "high", "bfloat16")
PROFILE_COLUMNS = (
    "layer", "phase", "calls", "time", "share", "gflops", "bytes", "intensity", "roofline", "bound",
)  # fmt: skip

ACTIVATION_HELP = f"{', '.join(HIDDEN)}; with parameters as in leaky_relu(0.2); default: %(default)s"

INTERRUPTED, BROKEN_PIPE = 130, 141


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
            write(json.dumps(result.report) + "\n" if "--json" in arguments else result.text)
    except KeyboardInterrupt:
        abandon_stdout()
        return INTERRUPTED
    except BrokenPipeError:
        abandon_stdout()
        return BROKEN_PIPE
    except OSError as error:
        abandon_stdout()
        note(f"briskmlp: error: cannot write the output: {error.strerror}")
        return 2
    return code


def _run(arguments: list[str]) -> tuple[int, Result | None]:
    """Parse the arguments and run the command; turn what fails into an exit code and one line on stderr."""
    try:
        return 0, _call(_parser().parse_args(arguments))
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
    note(f"briskmlp: {message}" if code == INTERRUPTED else f"briskmlp: error: {message}")
    return code, Result({"error": message}, "")


def _call(args: argparse.Namespace) -> Result:
    """Run the command; what it needs is imported now, so that --help and wrong arguments are answered at once."""
    match args.command:
        case "demo":
            from briskmlp.commands.demo import demo

            return demo(args)
        case "train":
            from briskmlp.tabular import train

            return train(args)
        case "predict":
            from briskmlp.tabular import predict

            return predict(args)
        case "profile":
            from briskmlp.commands.profile import profile

            return profile(args)
        case _:
            from briskmlp.commands.info import info

            return info()


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Raise instead of exiting, so that --json has its object for this error as well."""
        raise ValueError(f"{message} (see {self.prog} --help)")


class _Version(argparse.Action):
    """Look the version up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from briskmlp.commands.info import installed

        write(f"briskmlp {installed('briskmlp') or 'is not installed'}\n")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="briskmlp", description="Train dense neural networks on the CPU.", allow_abbrev=False)
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    demo = _add_command(commands, "demo", "train on scikit-learn's digits, and compare with scikit-learn")
    demo.add_argument("--epochs", type=_integer(1), default=30, help="default: %(default)s")
    demo.add_argument("--seed", type=_integer(0), default=0, help="default: %(default)s")
    _add_machine(demo)

    train = _add_command(commands, "train", "train on CSV, Parquet, NPZ or NPY files")
    _add_data(train)
    _add_training(train)
    _add_machine(train)

    predict = _add_command(commands, "predict", "predict the rows of files with a trained model")
    predict.add_argument("model", type=Path, help="what `briskmlp train --out` wrote")
    predict.add_argument(
        "data", type=Path, nargs="+", help="as for `train`; columns are found by name, others are ignored"
    )
    predict.add_argument("--out", type=Path, metavar="FILE", help="write the predictions here as CSV, not to stdout")
    _add_machine(predict)

    profile = _add_command(commands, "profile", "profile the training of a network on random data")
    _add_profile(profile)
    _add_machine(profile)

    _add_command(commands, "info", "show versions, backends, instruction sets and threads")
    return parser


def _add_command(commands: Any, name: str, text: str) -> Any:
    # Abbreviated options would break when an option is added, and --js would not be seen as --json.
    parser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="print one JSON object to stdout and nothing else")
    return parser


def _add_data(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("data")
    group.add_argument(
        "data",
        type=Path,
        nargs="+",
        metavar="DATA",
        help="CSV (also .csv.gz) with a header row and , ; or tab between cells; .parquet; .npz with arrays X and y; "
        "several of these with the same columns; or one or more .npy, which may be larger than memory",
    )
    group.add_argument(
        "--target",
        metavar="COLUMN",
        help="name or index (from 0) of the target; .npz: an array, default y; .npy: an index, default -1, the last "
        "column, or one more .npy file, with the target of all rows",
    )
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
    group.add_argument(
        "--validation-share",
        type=_share,
        metavar="SHARE",
        help="of the other rows, watched while training on the rest; default: 0.1 with --early-stopping, else 0",
    )
    group.add_argument("--out", type=Path, metavar="FILE", help="write the model here, such as model.safetensors")
    group.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw the losses of each epoch there, such as loss.png (Matplotlib)"
    )
    group.add_argument(
        "--checkpoint", type=Path, metavar="DIR", help="keep a checkpoint there, written every 30 s and at the end"
    )
    group.add_argument(
        "--resume", action="store_true", help="go on from the checkpoint of the same command, if there is one"
    )


def _add_training(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("training")
    group.add_argument(
        "--hidden", type=_widths, default=[100], metavar="WIDTHS", help="such as 100,50, or none; default: 100"
    )
    group.add_argument("--activation", type=_activation, default="relu", metavar="NAME", help=ACTIVATION_HELP)
    group.add_argument("--epochs", type=_integer(1), default=100, help="default: %(default)s")
    group.add_argument(
        "--early-stopping",
        type=_integer(1),
        nargs="?",
        const=10,
        metavar="PATIENCE",
        help="stop after so many epochs (default: 10) without a lower loss on the validation rows, and keep the best",
    )
    group.add_argument("--batch-size", type=_integer(1), default=32, help="default: %(default)s")
    group.add_argument("--optimizer", choices=list(OPTIMIZERS), default="Adam", help="default: %(default)s")
    group.add_argument("--learning-rate", type=float, metavar="RATE", help="default: the optimizer's")
    group.add_argument("--seed", type=_integer(0), default=0, help="of the split and the training; default: 0")
    group.add_argument("--dtype", choices=DTYPES, default="float32", help="default: %(default)s")
    group.add_argument(
        "--precision", choices=PRECISIONS, default="highest", help="of products in float32; default: %(default)s"
    )
    group.add_argument(
        "--progress",
        action=argparse.BooleanOptionalAction,
        help="show a bar on stderr; default: on a terminal; never with --json",
    )


def _add_profile(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("training")
    group.add_argument(
        "--layers", type=_widths, metavar="WIDTHS", help="from input to output, such as 4096,4096,4096,1000"
    )
    group.add_argument("--batch", type=_integer(1), default=128, metavar="ROWS", help="default: %(default)s")
    group.add_argument("--steps", type=_integer(1), help="default: as many as take about two seconds")
    group.add_argument("--activation", type=_activation, default="relu", metavar="NAME", help=ACTIVATION_HELP)
    group.add_argument("--optimizer", choices=list(OPTIMIZERS), default="SGD", help="default: %(default)s")
    group.add_argument("--dtype", choices=DTYPES, default="float32", help="default: %(default)s")
    group.add_argument("--precision", choices=PRECISIONS, default="highest", help="default: %(default)s")
    group = parser.add_argument_group("output")
    group.add_argument("--sort-by", choices=PROFILE_COLUMNS, default="layer", help="default: %(default)s")
    group.add_argument("--trace", type=Path, metavar="FILE", help="write a trace for https://ui.perfetto.dev here")
    group.add_argument("--plot", type=Path, metavar="FILE", help="write a picture here, such as profile.png")
    group.add_argument(
        "--calibrate", action="store_true", help="measure this machine's limits again; with --layers or without"
    )


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


def _activation(text: str) -> str:
    try:
        return check_activation("activation", text, HIDDEN)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


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
