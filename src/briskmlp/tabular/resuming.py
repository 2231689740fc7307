"""``briskmlp train --checkpoint --resume``: a checkpoint that is a model, and knows the rows that it has seen."""

from __future__ import annotations

import json
import zlib
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from briskmlp._console import note
from briskmlp.callbacks import Checkpoint
from briskmlp.data.arrays import CHUNK_BYTES
from briskmlp.data.inputs import Inputs
from briskmlp.storage import checkpoint
from briskmlp.trainer import Trainer

PREPARATION = "table"  # the key of the preparation in a model's configuration
CHECKPOINT_SECONDS = 30.0  # as the help says


class ModelCheckpoint(Checkpoint):
    """A checkpoint that `predict` takes as a model: it knows its columns, and the rows that it has seen."""

    def __init__(self, path: Path, configuration: dict[str, Any]) -> None:
        super().__init__(path, every_seconds=CHECKPOINT_SECONDS)
        self.config = configuration


def checkpoint_file(args: Namespace) -> Path | None:
    """Return where the checkpoint is to be; refuse to replace one unasked."""
    if args.checkpoint is None:
        if args.resume:
            raise ValueError("--resume needs --checkpoint DIR, which tells where the checkpoint is")
        return None
    if not (args.checkpoint if args.checkpoint.exists() else args.checkpoint.parent).is_dir():
        raise ValueError(
            f"--checkpoint is {str(args.checkpoint)!r}; accepted: a folder, or a new one in an existing folder"
        )
    path: Path = args.checkpoint / "checkpoint.safetensors"
    if path.exists() and not args.resume:
        raise ValueError(f"{path} is there; --resume goes on from it, and without it the file must be removed first")
    return path


def resumed(given: Trainer, configuration: dict[str, Any], path: Path, args: Namespace) -> Trainer:
    """Return the Trainer of a checkpoint if there is one, and if it has learned the same from the same data."""
    if not path.exists():
        note(f"{path}: no checkpoint yet")
        return given
    trainer = Trainer.load(path, backend=args.backend, threads=args.threads)
    stored, wanted = (
        {
            **trainer.configuration,
            "dtype": trainer.dtype.name,
            "network": trainer.network,
            "test_share": kept.get("test_share"),
            "validation_share": kept.get("validation_share", 0.0),  # which older files lack
            "data": [kept.get(PREPARATION), kept.get("checksum")],
        }
        for trainer, kept in (
            (trainer, checkpoint.read(path).config),
            (given, json.loads(json.dumps(configuration))),  # whose tuples become lists
        )
    )
    if changed := [name for name in wanted if stored[name] != wanted[name]]:
        raise ValueError(f"{path} was not written by this command: it has another {', another '.join(changed)}")
    if trainer.epoch > args.epochs:
        raise ValueError(f"--epochs is {args.epochs}, but {path} has {trainer.epoch} epochs already")
    note(f"{path}: goes on after epoch {trainer.epoch}")
    return trainer


def checksum(X: NDArray[Any] | Inputs, Y: NDArray[Any]) -> int:
    """Return a checksum of all bytes; rows that cannot be read are found here, before any weight moves."""
    result = 0
    for part in (X, Y):
        shape = (part.n, part.take(slice(0)).shape[1]) if isinstance(part, Inputs) else part.shape
        result = zlib.crc32(repr(shape).encode(), result)
        for block in _blocks(part, shape):
            result = zlib.crc32(block.data, result)
    return result


def _blocks(part: NDArray[Any] | Inputs, shape: tuple[int, ...]) -> Iterator[NDArray[Any]]:
    if not isinstance(part, Inputs):
        yield np.ascontiguousarray(part)
        return
    step = max(1, CHUNK_BYTES // (8 * shape[1]))
    for start in range(0, part.n, step):
        yield part.take(slice(start, start + step))
