"""The command line: ``briskmlp demo | train | predict | profile | info``.

Results go to stdout, notes and progress to stderr. With ``--json`` stdout gets exactly one JSON object, which is
``{"error": "…"}`` when something fails. Exit codes: 0 done; 1 training failed: it diverged or memory ran out; 2 wrong
arguments or data; 130 Ctrl-C; 141 the reader of the output went away.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from briskmlp._console import Result, abandon_stdout, note, write
from briskmlp._messages import check_choice

# Repeated here so that they are checked before anything is imported or read; tests hold them to the library's lists.
BACKENDS = ("auto", "native", "numba", "numpy")
DTYPES = ("float32", "float64")
PRECISIONS = ("highest", "high", "bfloat16")
POSITIONS = ("before", "after")  # of normalisations
PROFILE_COLUMNS = ("layer", "phase", "calls", "time", "share", "gflops", "bytes", "intensity", "roofline", "bound")

DEFAULT = "default: %(default)s"
INTERRUPTED, BROKEN_PIPE = 130, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command, by default that of ``sys.argv[1:]``, and return its exit code.

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
        code = INTERRUPTED
    except BrokenPipeError:
        code = BROKEN_PIPE
    except OSError as error:
        note(f"briskmlp: error: cannot write the output: {error.strerror}")
        code = 2
    else:
        return code
    abandon_stdout()
    return code


def _run(arguments: list[str]) -> tuple[int, Result | None]:
    """Parse the arguments and run the command; turn what fails into an exit code and one line on stderr."""
    try:
        args = _parser().parse_args(arguments)
        # The command is imported now, so that --help and wrong arguments are answered at once.
        module, name = args.function.split(":")
        return 0, getattr(importlib.import_module(f"briskmlp.{module}"), name)(args)
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

    def command(function: str, text: str) -> Any:
        # Abbreviated options would break when an option is added, and --js would not be seen as --json.
        name, about = function.split(":")[1], f"{text[0].upper()}{text[1:]}."
        added = commands.add_parser(name, help=text, description=about, allow_abbrev=False)
        added.add_argument("--json", action="store_true", help="print one JSON object to stdout and nothing else")
        added.set_defaults(function=function)
        return added

    demo = command("commands.demo:demo", "train on scikit-learn's digits, and compare with scikit-learn")
    demo.add_argument("--epochs", type=_integer(1), default=30, help=DEFAULT)
    demo.add_argument("--seed", type=_integer(0), default=0, help=DEFAULT)
    train = command("tabular.training:train", "train on CSV, Parquet, NPZ or NPY files")
    _add_train(train)
    predict = command("tabular.prediction:predict", "predict the rows of files with a trained model")
    predict.add_argument("model", type=Path, help="what `briskmlp train --out` wrote")
    found = "as for `train`; columns are found by name, others are ignored"
    predict.add_argument("data", type=Path, nargs="+", help=found)
    predict.add_argument("--out", type=Path, metavar="FILE", help="write the predictions here as CSV, not to stdout")
    profile = command("commands.profile:profile", "profile the training of a network on random data")
    _add_profile(profile)
    for user in (demo, train, predict, profile):
        add = user.add_argument_group("machine").add_argument
        add("--backend", choices=BACKENDS, default="auto", help=DEFAULT)
        add("--threads", type=_integer(1), help="an upper bound; default: what the machine allows")
    command("commands.info:info", "show versions, backends, instruction sets and threads")
    return parser


def _add_train(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("data").add_argument
    formats = (
        "CSV (also .csv.gz) with a header row and , ; or tab between cells; .parquet; .npz with arrays X and y; "
        "several of these with the same columns; or one or more .npy, which may be larger than memory"
    )
    add("data", type=Path, nargs="+", metavar="DATA", help=formats)
    target = (
        "name or index (from 0) of the target; .npz: an array, default y; .npy: an index, default -1, the last "
        "column, or one more .npy file, with the target of all rows"
    )
    add("--target", metavar="COLUMN", help=target)
    add("--ignore", type=_names, default=[], metavar="COLUMNS", help="columns to leave out: id,name")
    add("--text", type=_names, default=[], metavar="COLUMNS", help="numbers that are categories: zip,year")
    task = "default: regression if the target's values are numbers, else classification"
    add("--task", choices=("classification", "regression"), help=task)
    add("--test-share", type=_share, default=0.2, metavar="SHARE", help="rows held out for the score; default: 0.2")
    watched = "of the other rows, watched while training on the rest; default: 0.1 with --early-stopping, else 0"
    add("--validation-share", type=_share, metavar="SHARE", help=watched)
    add("--out", type=Path, metavar="FILE", help="write the model here, such as model.safetensors")
    add("--plot", type=Path, metavar="FILE", help="draw the losses of each epoch there, such as loss.png (Matplotlib)")
    add("--checkpoint", type=Path, metavar="DIR", help="keep a checkpoint there, written every 30 s and at the end")
    add("--resume", action="store_true", help="go on from the checkpoint of the same command, if there is one")

    add = parser.add_argument_group("training").add_argument
    add("--hidden", type=_widths, default=[100], metavar="WIDTHS", help="such as 100,50, or none; default: 100")
    add("--epochs", type=_integer(1), default=100, help=DEFAULT)
    patience = "stop after so many epochs (default: 10) without a lower loss on the validation rows, and keep the best"
    add("--early-stopping", type=_integer(1), nargs="?", const=10, metavar="PATIENCE", help=patience)
    add("--batch-size", type=_integer(1), default=32, help=DEFAULT)
    add("--learning-rate", type=float, metavar="RATE", help="default: the optimizer's")
    add("--seed", type=_integer(0), default=0, help="of the split and the training; default: 0")
    _add_network(add, "Adam")
    shown = "show a bar on stderr; default: on a terminal; never with --json"
    add("--progress", action=argparse.BooleanOptionalAction, help=shown)


def _add_profile(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("training").add_argument
    add("--layers", type=_widths, metavar="WIDTHS", help="from input to output, such as 4096,4096,4096,1000")
    add("--batch", type=_integer(1), default=128, metavar="ROWS", help=DEFAULT)
    add("--steps", type=_integer(1), help="default: as many as take about two seconds")
    _add_network(add, "SGD")
    add = parser.add_argument_group("output").add_argument
    add("--sort-by", choices=PROFILE_COLUMNS, default="layer", help=DEFAULT)
    add("--trace", type=Path, metavar="FILE", help="write a trace for https://ui.perfetto.dev here")
    add("--plot", type=Path, metavar="FILE", help="write a picture here, such as profile.png")
    add("--calibrate", action="store_true", help="measure this machine's limits again; with --layers or without")


def _add_network(add: Callable[..., Any], optimizer: str) -> None:
    activations = f"any hidden activation of Trainer, such as tanh, gelu or leaky_relu(0.2); {DEFAULT}"
    add("--activation", type=_listed("activation"), default="relu", metavar="NAME", help=activations)
    norms = "over a batch or a layer: batch, layer, or with parameters, such as batch(momentum=0.01); default: none"
    add("--norm", type=_listed("norm"), metavar="NAME", help=f"normalisation in the hidden layers, {norms}")
    add("--norm-position", choices=POSITIONS, default="before", help=f"the activation; {DEFAULT}")
    optimizers = f"any optimizer of briskmlp, such as SGD, Adam or RMSprop; {DEFAULT}"
    add("--optimizer", type=_listed("optimizer"), default=optimizer, metavar="NAME", help=optimizers)
    add("--dtype", choices=DTYPES, default="float32", help=DEFAULT)
    add("--precision", choices=PRECISIONS, default="highest", help=f"of products in float32; {DEFAULT}")


def _integer(low: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if text.isdecimal() and low <= int(text) < 2**63:
            return int(text)
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number >= {low}")

    return parse


def _listed(argument: str) -> Callable[[str], str]:
    """Return what checks the name of an activation or optimizer by its table, which is imported only when needed."""

    def parse(text: str) -> str:
        from briskmlp.operations.activations import HIDDEN, check_activation
        from briskmlp.operations.layers import check_norm
        from briskmlp.operations.rules import OPTIMIZERS

        try:
            if argument == "activation":
                return check_activation(argument, text, HIDDEN)
            if argument == "norm":
                return str(check_norm(argument, text))
            return check_choice(argument, text, list(OPTIMIZERS))
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

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
