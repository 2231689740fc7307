"""The history of a call of ``fit``: the values recorded in each epoch."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from briskmlp._messages import count

# Of one epoch: "epoch" (int, epochs completed in the trainer's life, so it begins with 1), "loss", "learning_rate",
# "time" (seconds); with validation_data "val_loss"; metrics such as "accuracy" and "val_accuracy".
Record = dict[str, float]


class History:
    """The values that one call of ``fit`` recorded in each epoch.

    ``history["val_accuracy"]`` is a list with one value per epoch, iterating over the history gives one dict per epoch,
    and ``pandas.DataFrame(history)`` is a table.

    Parameters
    ----------
    records : iterable of dict
        One per epoch, with "epoch" (counted from 1 over all calls of ``fit``), "loss", "learning_rate", "time" in
        seconds, and optionally "val_loss", "accuracy", "val_accuracy", "mae" and "val_mae".

    Examples
    --------
    >>> history = History([{"epoch": 1, "loss": 0.5, "time": 0.01}, {"epoch": 2, "loss": 0.25, "time": 0.01}])
    >>> history.loss
    [0.5, 0.25]
    >>> history
    History(2 epochs: loss 0.25)
    """

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self._columns: dict[str, array[Any]] = {}
        for record in records:
            self.extend({name: [value] for name, value in record.items()})

    @property
    def records(self) -> list[Record]:
        """One dict per epoch."""
        return self.last(len(self))

    @property
    def loss(self) -> list[float]:
        """Training loss of each epoch."""
        return self._column("loss")

    @property
    def val_loss(self) -> list[float]:
        """Loss on ``validation_data`` after each epoch; empty if there is none."""
        return self._column("val_loss")

    @property
    def time(self) -> list[float]:
        """Duration of each epoch in seconds; the time of a kernel call is divided evenly among its epochs."""
        return self._column("time")

    def extend(self, columns: Mapping[str, Sequence[float] | np.ndarray[Any, Any]]) -> None:
        """Add the epochs just trained, one column of values per name.

        The columns are arrays because an epoch may last only 0.2 µs, and building Python lists would take half of that.

        Parameters
        ----------
        columns : mapping of str to sequence of float
        """
        for name, values in columns.items():
            column = self._columns.setdefault(name, array("q" if name == "epoch" else "d"))
            column.frombytes(np.asarray(values, dtype=column.typecode).tobytes())

    def _column(self, name: str) -> list[float]:
        return self._columns[name].tolist() if name in self._columns else []

    def last(self, n: int) -> list[Record]:
        """Return the records of the last ``n`` epochs.

        Parameters
        ----------
        n : int
        """
        columns = [values[len(values) - n :] for values in self._columns.values()]
        return [dict(zip(self._columns, row, strict=True)) for row in zip(*columns, strict=True)]

    def __getitem__(self, name: str) -> list[float]:
        if name not in self._columns:
            raise KeyError(f"history has no {name!r}, only {', '.join(self._columns) or 'no epochs'}")
        return self._column(name)

    def __len__(self) -> int:
        return max(map(len, self._columns.values()), default=0)

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, History) and self._columns == other._columns

    __hash__ = None  # type: ignore[assignment] # it grows

    def __repr__(self) -> str:
        hidden = ("epoch", "learning_rate", "time")
        shown = [f"{name} {values[-1]:.4g}" for name, values in self._columns.items() if name not in hidden]
        return f"History({count(len(self), 'epoch')}{': ' * bool(shown)}{', '.join(shown)})"
