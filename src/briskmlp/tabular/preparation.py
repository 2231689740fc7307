"""The preparation of a table for a network: numbers are standardised, text is one-hot encoded."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from briskmlp.tabular.reading import NUMBER, TEXT, Column, Table, listed
from briskmlp.tabular.reading.npy import Index, Mapped, MappedInputs

PREPARATION = "table"  # the key of the preparation in a model's configuration
MAX_CATEGORIES = 100  # of a text column; more are names or identifiers, from which nothing general is learnt
MAX_CLASSES = 1000

Place = Callable[[int], str]  # from a row of a table to where it is: "data.csv, line 3"


@dataclass(frozen=True)
class Feature:
    """How one column becomes numbers, learned from the training rows."""

    name: str
    mean: float = 0.0  # a number x becomes (x - mean) / scale
    scale: float = 1.0
    categories: tuple[str, ...] | None = None  # text becomes a column of 0 and 1 for each; an unknown text, zeros

    @classmethod
    def fit(cls, name: str, column: Column, most: int = MAX_CATEGORIES) -> Feature:
        """Learn the mean and standard deviation, or the categories, of which ``most`` are accepted."""
        if column.dtype == object:
            categories = sorted(set(column.tolist()))
            if len(categories) > most:
                many = f"column {name!r} has too many different texts: {listed(categories, 3)}"
                raise ValueError(f"{many}; accepted: at most {most}")
            return cls(name, categories=tuple(categories))
        with np.errstate(over="ignore", invalid="ignore"):
            return cls.from_moments(name, column.min(), column.max(), column.mean(), column.std())

    @classmethod
    def from_moments(cls, name: str, low: float, high: float, mean: float, std: float) -> Feature:
        """Return what `fit` learns of a column of numbers; a constant column has scale 1."""
        if low == high:
            return cls(name, mean=float(low))
        if not (math.isfinite(mean) and math.isfinite(std)):
            raise ValueError(f"column {name!r} has numbers up to {max(-low, high):g}, too large to standardise")
        return cls(name, float(mean), float(std) or 1.0)

    @property
    def kind(self) -> str:
        """``"number"`` or ``"text"``."""
        return NUMBER if self.categories is None else TEXT

    @property
    def width(self) -> int:
        """Number of columns of X that this column becomes."""
        return 1 if self.categories is None else len(self.categories)

    def encode(self, column: Column, out: NDArray[Any], place: Place = "row {}".format) -> None:
        """Write the numbers of a column to ``out``, shape (n, width); ``place`` tells errors where a row is."""
        if self.categories is not None:
            out[:] = column[:, None] == np.array(self.categories, dtype=object)
            return
        with np.errstate(over="ignore", invalid="ignore"):
            out[:, 0] = (column - self.mean) / self.scale
        if not (finite := np.isfinite(out[:, 0])).all():
            row = int(finite.argmin())
            value = f"{place(row)}, column {self.name!r}: {column[row]:g}"
            raise ValueError(f"{value} is too far from the training rows' mean")


@dataclass(frozen=True)
class Preparation:
    """How a table becomes X and Y; stored with a model, so that new rows are converted as the training rows were."""

    features: tuple[Feature, ...]
    target: Feature

    @classmethod
    def fit(cls, table: Table, target: str, rows: Index) -> Preparation:
        """Learn from the training rows alone; only the classes are those of all rows."""
        features = tuple(Feature.fit(name, column[rows]) for name, column in table.items() if name != target)
        return cls(features, _fit_target(target, table[target], rows))

    @classmethod
    def fit_mapped(cls, mapped: Mapped, columns: Index, target: str, y: Column, rows: Index) -> Preparation:
        """Learn the same from some columns of files, and a target that is in memory."""
        names = [mapped.names[j] for j in columns]
        features = tuple(map(Feature.from_moments, names, *mapped.moments(rows, columns)))
        return cls(features, _fit_target(target, y, rows))

    @property
    def n_in(self) -> int:
        """Columns of X."""
        return sum(feature.width for feature in self.features)

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The classes, or None for regression."""
        return self.target.categories

    @property
    def n_out(self) -> int:
        """Columns of what the network predicts."""
        return self.target.width

    def choose(self, names: list[str]) -> dict[str, str | None]:
        """Return the columns to read from a table with these names, for `read`."""
        if missing := [feature.name for feature in self.features if feature.name not in names]:
            raise ValueError(f"the model needs the columns {listed(missing)}, but the file has {listed(names)}")
        return {feature.name: feature.kind for feature in self.features}

    def inputs(self, table: Table, dtype: str, place: Place = "row {}".format) -> NDArray[Any]:
        """Return X, shape (n, n_in), of this dtype."""
        X = np.empty((len(table[self.features[0].name]), self.n_in), dtype=dtype)
        ends = np.cumsum([feature.width for feature in self.features])
        for feature, columns in zip(self.features, np.split(X, ends[:-1], axis=1), strict=True):
            feature.encode(table[feature.name], columns, place)
        return X

    def mapped_inputs(self, mapped: Mapped, rows: Index, dtype: str) -> MappedInputs:
        """Return the same for some rows of files, which are read when they are needed."""
        index = {name: j for j, name in enumerate(mapped.names)}
        columns = np.array([index[feature.name] for feature in self.features])
        mean, scale = (np.array([getattr(f, name) for f in self.features]) for name in ("mean", "scale"))
        return MappedInputs(mapped, rows, columns, mean, scale, np.dtype(dtype))

    def targets(self, column: Column, place: Place = "row {}".format) -> NDArray[Any]:
        """Return Y: labels (n,) of int64, or standardised numbers (n, 1) of float64."""
        if self.classes is not None:
            index = {name: label for label, name in enumerate(self.classes)}
            return np.array([index[name] for name in column.tolist()], dtype=np.int64)
        Y = np.empty((len(column), 1))
        self.target.encode(column, Y, place)
        return Y

    def original_units(self, Y: NDArray[Any]) -> NDArray[np.float64]:
        """Return predictions (n, 1) of a standardised target as float64 (n,) in the target's own units.

        A float32 would hold few digits of a small difference from a large mean; those it cannot tell are rounded off.
        """
        values = Y[:, 0].astype(np.float64) * self.target.scale + self.target.mean
        if Y.dtype != np.float32:
            return values
        return values.round(min(8 - math.floor(math.log10(self.target.scale)), 300))

    def to_json(self) -> dict[str, Any]:
        """Return plain numbers, strings and lists."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> Preparation:
        """Undo `to_json`; raise a ValueError for anything else."""
        try:
            features = tuple(map(_feature, data["features"]))
            if not features:
                raise ValueError("there are no columns")
            return cls(features, _feature(data["target"]))
        except (KeyError, OverflowError, TypeError, ValueError) as error:
            raise ValueError(f"the model's preparation of columns is damaged: {error!r}") from None


def _fit_target(name: str, y: Column, rows: Index) -> Feature:
    return Feature.fit(name, y if y.dtype == object else y[rows], MAX_CLASSES)


def _feature(data: Any) -> Feature:
    name, categories = str(data["name"]), data["categories"]
    if categories is not None:
        return Feature(name, categories=tuple(map(str, categories)))
    mean, scale = float(data["mean"]), float(data["scale"])
    if not (math.isfinite(mean) and 0 < scale < math.inf):
        raise ValueError(f"column {name!r} has mean {mean} and scale {scale}")
    return Feature(name, mean, scale)
