"""NPZ files: an array X of shape (n, …), whose columns are called ``X[0]``, ``X[1]``, …, and a target (n,)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from briskmlp.data.arrays import refuse
from briskmlp.tabular.reading.columns import Choose, Column, Part, as_kind, listed, target_array


def read(path: Path, choose: Choose, target: str | None) -> Part:
    """Read columns of X, and the array ``target``."""
    arrays = _load(path)
    feature = _feature_array(path, arrays, target)
    X = arrays[feature]
    if X.dtype.kind not in "buif":
        raise ValueError(f"{path}: array {feature!r} has dtype {X.dtype}; accepted: bool, integers or floats")
    if X.ndim < 1 or 0 in X.shape:
        raise ValueError(f"{path}: array {feature!r} has shape {X.shape}; accepted: (n, …), not empty")
    X = X.reshape(len(X), -1).astype(np.float64, copy=False)
    refuse(~np.isfinite(X), X, f"{path}: array {feature!r} has", "values must be finite")
    table = {f"X[{j}]": X[:, j] for j in range(X.shape[1])}
    if target in arrays:
        table[target] = target_array(path, target, arrays[target], len(X))
    try:
        kinds = choose(list(table))
    except ValueError as error:
        raise ValueError(f"{error}; the arrays of {path} are {listed(list(arrays))}") from None
    return Part(path, {name: as_kind(path, name, table[name], kind) for name, kind in kinds.items()})


def _load(path: Path) -> dict[str, Column]:
    wanted = "accepted: an NPZ file as numpy.savez writes it"
    arrays = {}
    with path.open("rb") as file:  # given the path, np.load leaves damaged files open
        try:
            archive = np.load(file, allow_pickle=False)
        except Exception:  # damaged archives raise almost anything
            raise ValueError(f"{path} is not an NPZ file; {wanted}") from None
        if not hasattr(archive, "files"):
            raise ValueError(f"{path} is a single array (NPY); {wanted}")
        for name in archive.files:
            try:
                arrays[name] = archive[name]
            except Exception as error:
                raise ValueError(f"{path}: array {name!r} cannot be read: {error}; {wanted}, without objects") from None
    return arrays


def _feature_array(path: Path, arrays: Mapping[str, Column], target: str | None) -> str:
    if "X" in arrays and target != "X":
        return "X"
    others = [name for name, array in arrays.items() if name != target and array.ndim >= 2]
    if len(others) == 1:
        return others[0]
    shapes = ", ".join(f"{name!r} {array.shape}" for name, array in arrays.items()) or "none"
    raise ValueError(f"{path} has the arrays {shapes}; accepted: one called 'X', or just one of 2 or more dimensions")
