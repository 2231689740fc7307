"""Conversion of networks to ONNX files. Importing this package imports ONNX (extra ``onnx``).

A layer, ``Y = f(X W + b)``, is ``Gemm`` and its activation, in operators of opset 17; a normalisation is
``BatchNormalization``, by its running statistics, or ``LayerNormalization``. Parameters are float32, even of
networks trained in float64. The file also has the names of classes and the columns of a table.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

try:
    import onnx
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("this needs ONNX: pip install 'briskmlp[onnx]'", name="onnx") from error

from briskmlp.convert.onnx.graph import build
from briskmlp.convert.onnx.model import read_model
from briskmlp.storage.files import written

__all__ = ["to_onnx"]

LARGEST = 2**31 - 2**20  # bytes: protobuf's limit, without what the graph around the weights takes


def to_onnx(model: Any, path: str | os.PathLike[str], *, classes: Sequence[Any] | None = None) -> None:
    """Write a network to an ONNX file, for any number of rows.

    Parameters
    ----------
    model : Trainer, MLPClassifier, MLPRegressor, str or path-like
        A path names a file written by ``briskmlp train`` or ``Trainer.save``.
    path : str or path-like
        An existing file is replaced, atomically.
    classes : sequence of int or of str, optional
        Of a Trainer: the names of its outputs, or of 0 and 1 where it has one output. Trained with cross_entropy, it
        has the classes 0, 1, … if none are given. Estimators and models of ``briskmlp train`` have their own.

    Raises
    ------
    TypeError, ValueError
        ``model`` is none of these or is not fitted, ``classes`` do not fit, or parameters are too many or too large.
    OSError
        The file cannot be written.

    Notes
    -----
    Inputs: ``X``, float32 (N, n_in). A model of ``briskmlp train`` has an input for each column of the table instead,
    with its name: double or string, (N, 1). An unknown text becomes zeros. ``briskmlp predict`` strips spaces around
    the cells of a CSV file; a graph cannot, so pass texts without them.

    Outputs of classifiers: ``label`` (N,), a class, and ``probabilities`` (N, n_classes), as predict and predict_proba
    return; with several sigmoid outputs and cross_entropy, where a row may have several classes, ``label``
    (N, n_classes) of 0 and 1. Outputs of others: ``prediction``, as predict returns; of a model of ``briskmlp train``,
    double (N,), in the target's own units.

    A bias shared by a layer becomes an equal bias for each neuron. Predictions are without dropout.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from pathlib import Path
    >>> from briskmlp import Network
    >>> from briskmlp.storage import checkpoint
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file, model = Path(folder, "digits.safetensors"), Path(folder, "digits.onnx")
    ...     checkpoint.write(file, Network([2, 3, 1], output="identity"), np.zeros(13), {})
    ...     to_onnx(file, model)
    ...     [node.op_type for node in onnx.load(model).graph.node]
    ['Gemm', 'Sigmoid', 'Gemm']
    """
    described = read_model(model, classes)
    size = 4 * sum(W.size + W.shape[1] for W in described.weights)
    if size > LARGEST:
        raise ValueError(f"model has {size} bytes of parameters, but an ONNX file holds at most 2 GiB")
    made = build(described)
    onnx.checker.check_model(made, full_check=True)
    with written(path) as file:
        file.write(made.SerializeToString())
