"""What an ONNX file contains, taken from a Trainer, an estimator or a file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from briskmlp.network import FloatArray, Network, Statistics, flattened
from briskmlp.operations.activations import of_estimator
from briskmlp.storage import checkpoint


class Normalisation(NamedTuple):
    """What a file contains of a normalisation."""

    kind: str  # as the table of layers names it
    after: bool  # whether its activation comes before it
    eps: float
    gamma: FloatArray  # (n,), as are the others
    beta: FloatArray
    statistics: Statistics | None  # of a batch normalisation


class Model(NamedTuple):
    """What a file contains."""

    weights: Sequence[FloatArray]  # (n_in, n_out)
    biases: Sequence[FloatArray]  # (n_out,), (1,) or (0,)
    activations: Sequence[str]
    norms: Mapping[int, Normalisation] = {}  # by their places: 0 is before the first layer, l in layer l
    classes: Any = None  # None: it predicts numbers, or is multilabel
    multilabel: bool = False  # each output is a class of its own
    flat: bool = False  # one target's numbers are (N,)
    columns: Mapping[str, Any] | None = None  # how the columns of a table become inputs


def read_model(model: Any, classes: Sequence[Any] | None) -> Model:
    """Return what `to_onnx` is given as a `Model`."""
    if isinstance(model, (str, os.PathLike)):
        stored = checkpoint.read(model)
        if (columns := stored.config.get("table")) is not None:  # written by `briskmlp train`
            return _read_table(stored.network, stored.parameters, stored.statistics, columns, classes)
        loss = str(stored.config.get("loss"))
        return _read_network(stored.network, stored.parameters, stored.statistics, loss, classes)
    if hasattr(model, "network") and hasattr(model, "parameters"):
        statistics = flattened(model.statistics, model.dtype)
        return _read_network(model.network, model.parameters, statistics, model.loss, classes)
    if hasattr(model, "hidden_layer_sizes"):
        return _read_estimator(model, classes)
    raise TypeError(f"model is a {type(model).__name__}; accepted: a Trainer, MLPClassifier, MLPRegressor or a path")


def read_norms(network: Network, parameters: FloatArray, statistics: FloatArray) -> dict[int, Normalisation]:
    """Return the normalisations of a network by their places."""
    running, norms = iter(network.split_statistics(statistics)), dict[int, Normalisation]()
    for norm, gamma, beta in zip(network.norms, network.gammas(parameters), network.betas(parameters), strict=True):
        of_batches = next(running) if norm.row.statistics else None
        after, eps = norm.position == "after", norm.values["eps"]
        norms[norm.place] = Normalisation(norm.row.name, after, eps, gamma, beta, of_batches)
    return norms


def _read_network(
    network: Network, parameters: FloatArray, statistics: FloatArray, loss: str, classes: Sequence[Any] | None
) -> Model:
    norms = read_norms(network, parameters, statistics)
    read = Model(network.weights(parameters), network.biases(parameters), network.activations, norms)
    n_out = network.n_out
    if classes is not None:
        if len(classes) != max(n_out, 2) or len(set(classes)) != len(classes):
            raise ValueError(f"classes are {list(classes)}; accepted: {max(n_out, 2)} different ones")
        return read._replace(classes=classes)
    if loss != "cross_entropy":
        return read
    if network.output == "sigmoid" and n_out > 1:
        return read._replace(multilabel=True)
    return read._replace(classes=range(max(n_out, 2)))


def _read_table(
    network: Network, parameters: FloatArray, statistics: FloatArray, columns: Any, classes: Sequence[Any] | None
) -> Model:
    if classes is not None:
        raise ValueError("classes are given, but the model has its own")
    read = _read_network(network, parameters, statistics, "", None)._replace(columns=columns, flat=True)
    try:
        names = columns["target"]["categories"]
        features = [(str(feature["name"]), feature["categories"]) for feature in columns["features"]]
        n_in = sum(1 if categories is None else len(categories) for _, categories in features)
        n_out = 1 if names is None else len(names)
    except (KeyError, TypeError) as error:
        raise ValueError(f"the model's preparation of columns is damaged: {error!r}") from None
    if (n_in, n_out) != (network.n_in, network.n_out):
        raise ValueError("the model is damaged: its columns do not fit its network")
    return read._replace(classes=names)


def _norms_of_estimator(estimator: Any) -> dict[int, Normalisation]:
    if not vars(estimator).get("norms_"):
        return {}
    layers = [len(estimator.coefs_[0]), *(coef.shape[1] for coef in estimator.coefs_)]
    network = Network(layers, norm=estimator.norm, norm_position=estimator.norm_position)
    norms = dict[int, Normalisation]()
    for norm, found in zip(network.norms, estimator.norms_, strict=True):
        running = Statistics(*(found[name] for name in norm.row.statistics)) if norm.row.statistics else None
        after, eps = norm.position == "after", norm.values["eps"]
        norms[norm.place] = Normalisation(norm.row.name, after, eps, found["gamma"], found["beta"], running)
    return norms


def _read_estimator(estimator: Any, classes: Sequence[Any] | None) -> Model:
    name = type(estimator).__name__
    if classes is not None:
        raise ValueError(f"classes are given, but an {name} has its own")
    if not hasattr(estimator, "coefs_"):
        raise ValueError(f"model is an {name} that is not fitted; call its fit first")
    activations = of_estimator(estimator.activation, estimator.out_activation_, len(estimator.coefs_) - 1)
    read = Model(
        estimator.coefs_,
        estimator.intercepts_,
        activations,
        _norms_of_estimator(estimator),
        flat=estimator.n_outputs_ == 1,
    )
    if not hasattr(estimator, "classes_"):
        return read
    if estimator.n_outputs_ > 1 and activations[-1] != "softmax":
        return read._replace(multilabel=True)
    if len(estimator.classes_) < 2:
        raise ValueError(f"model is an {name} of {len(estimator.classes_)} class; accepted: 2 or more")
    return read._replace(classes=estimator.classes_)
