"""Checkpoints: one safetensors file that holds a network, its parameters, a configuration, and how far training is.

The weights are there under the names that PyTorch gives those of ``nn.Sequential(Linear, activation, Linear, …)``:
layer l is ``"{2l}.weight"`` (n_out, n_in) and ``"{2l}.bias"`` (n_out,). A bias shared by the layer is (1,), none is
absent. With normalisations the numbers are positions in the Sequential that ``Trainer.to_torch`` makes, and theirs are
``weight`` and ``bias`` (n,) and, of batch normalisations, ``running_mean`` and ``running_var`` (n,) and, as int64,
``num_batches_tracked`` (). Training adds ``"optimizer.{slot}"`` (n_parameters,), laid out as ``Trainer.parameters`` is,
with PyTorch's names of the slots, and ``"callbacks.{i}.{name}"`` for arrays in the state of the i-th callback. PyTorch
reads the weights with
``module.load_state_dict({k: v for k, v in safetensors.torch.load_file(path).items() if k[0].isdigit()})``, unless a
layer shares its bias, which PyTorch's layers cannot.

The metadata has "format" = "briskmlp", "format_version" and "config", which is JSON:
``{"network": {"layers", "hidden", "output", "bias"}, "trainer": …, "training": …, "callbacks": […]}``; the last two
are those of `Training` and `CallbackState`. Version 1 lacks them. A network with normalisations has its arguments for
them as well, and its file version 3; all others have version 2. Every later briskmlp reads all older versions.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from briskmlp.backends.contract import Position, State
from briskmlp.network import NORM_ARGUMENTS, FloatArray, Network
from briskmlp.session import TrainingState
from briskmlp.storage import tensors
from briskmlp.storage.tensors import CheckpointError as CheckpointError  # noqa: PLC0414 - its public home
from briskmlp.storage.tensors import Reader, require

FORMAT, FORMAT_VERSION, VERSION_WITH_NORMS = "briskmlp", 2, 3
READABLE = ("1", "2", "3")
DTYPES = ("F32", "F64")  # of parameters
TRACKED = "num_batches_tracked"
OPTIMIZER, CALLBACKS = "optimizer.", "callbacks."
MAX_COUNT = 2**53  # of epochs and steps: what JSON's readers agree on, and no training reaches

CallbackState = tuple[str, dict[str, Any]]  # the name of its class, and what state_dict() returned


class Training(NamedTuple):
    """How far a training has come, and where it took place."""

    epoch: int
    batch: int  # batches done of the epoch in progress
    step: int
    loss_sum: float  # the epoch's Σ batch loss·weight
    weight_sum: float
    unfinished: tuple[int, int] | None  # batch size and checksum of the data, inside an epoch
    backend: str
    isa: str | None
    scalars: Mapping[str, float] | None = None  # what the optimizer keeps beside its slots; in files only if it does

    @classmethod
    def of(cls, state: TrainingState, backend: str, isa: str | None, scalars: Sequence[str] = ()) -> Training:
        """Return what a file keeps of a state, beside its arrays; ``scalars`` are the names of those it has."""
        position = state.state.position
        named = dict(zip(scalars, state.state.scalars.tolist(), strict=True))
        numbers = position.counts.tolist() + position.sums.tolist()
        return cls._make([*numbers, state.unfinished, backend, isa, named])


@dataclass
class Stored:
    """What a file holds."""

    network: Network
    parameters: FloatArray
    config: dict[str, Any]
    slots: dict[str, FloatArray] = field(default_factory=dict)  # the optimizer's state, (n_parameters,) each
    training: Training | None = None  # None: only a model was kept
    callbacks: list[CallbackState] = field(default_factory=list)
    statistics: FloatArray = field(default_factory=lambda: np.zeros(0))  # (n_statistics,)
    batches: list[int] = field(default_factory=list)  # that each batch normalisation has met

    def state(self, slots: Sequence[str], scalars: Sequence[str] = ()) -> TrainingState:
        """Return the training's state, whose slots and scalars have these names in this order."""
        if (training := self.training) is None:
            raise CheckpointError("the file holds a model alone")
        kept, needed = training.scalars or {}, (*slots, *scalars)
        if set(needed) != {*self.slots, *kept}:
            found = tensors.shortened(", ".join([*self.slots, *kept])) or "none"
            raise CheckpointError(f"needs the state {', '.join(needed) or 'none'}, not {found}")
        arrays = np.array([self.slots[name] for name in slots]).reshape(len(slots), self.network.n_parameters)
        position = Position(np.array(training[:3], dtype=np.int64), np.array(training[3:5]))
        numbers = np.array([kept[name] for name in scalars], dtype=float)
        state = State(self.parameters, arrays, numbers, self.statistics, position)
        return TrainingState(state, training.unfinished)


def write(
    path: str | os.PathLike[str],
    network: Network,
    parameters: FloatArray,
    config: dict[str, Any],
    *,
    slots: Mapping[str, FloatArray] | None = None,
    training: Training | None = None,
    callbacks: Sequence[CallbackState] = (),
    statistics: FloatArray | None = None,
    batches: Sequence[int] = (),
) -> None:
    """Write a checkpoint, which replaces what is at ``path`` as `tensors.write` does: whole or, with an OSError, not.

    ``parameters`` and the optimizer's ``slots`` are (n_parameters,), ``statistics`` (n_statistics,), by default the
    initial ones, float32 or float64, all of the same dtype; ``batches`` has a number for each batch normalisation, how
    many it has met. A ValueError says that an array does not fit the network or is not finite, or that ``config`` is
    not strict JSON: tuples come back as lists, NaN and infinity are refused. The states of callbacks are of JSON
    values, NumPy's and infinite numbers, and arrays of numbers, which are tensors; a TypeError names what is something
    else.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "model.safetensors")
    ...     write(path, Network([2, 1]), np.ones(3), {"l2": 0.5}, callbacks=[("Best", {"epoch": 7, "loss": math.inf})])
    ...     stored = read(path)
    >>> stored.network.layers, stored.parameters, stored.config, stored.callbacks
    ((2, 1), array([1., 1., 1.]), {'l2': 0.5}, [('Best', {'epoch': 7, 'loss': inf})])
    """
    slots = dict(slots or {})
    if statistics is None:
        statistics = network.initial_statistics(parameters.dtype)
    for name, values in {"parameters": parameters, "statistics": statistics, **slots}.items():
        wanted = (network.n_statistics if name == "statistics" else network.n_parameters,)
        if (values.shape, values.dtype) != (wanted, parameters.dtype) or tensors.CODES.get(values.dtype) not in DTYPES:
            came = f"{name} is {values.shape} {values.dtype}"
            raise ValueError(f"{came}, but this network's are {wanted} float32 or float64")
        if not np.isfinite(values).all():
            raise ValueError(f"{name} has NaN or infinity, which no checkpoint may hold")
    named = zip(network.tensors, network.views(parameters), strict=True)
    arrays: dict[str, Any] = {tensor.name: values.T for tensor, values in named if tensor.size}
    arrays |= {tensor.name: statistics[tensor.part] for tensor in network.statistics}
    tracked = tracked_names(network)
    arrays |= {name: np.array(count) for name, count in zip(tracked, batches or [0] * len(tracked), strict=True)}
    arrays |= {OPTIMIZER + name: values for name, values in slots.items()}
    described: dict[str, Any] = {
        "network": network.arguments,
        "trainer": config,
    }
    if training is not None:
        kept = training._asdict().items()
        described["training"] = {name: value for name, value in kept if name != "scalars" or value}
    if callbacks:
        described["callbacks"] = [_describe_callback(i, *callback, arrays) for i, callback in enumerate(callbacks)]
    try:
        text = json.dumps(described, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"config must be strict JSON: {error}") from error
    version = VERSION_WITH_NORMS if network.norms else FORMAT_VERSION
    tensors.write(path, arrays, {"format": FORMAT, "format_version": str(version), "config": text})


def tracked_names(network: Network) -> list[str]:
    """Return what the numbers of batches are called that each batch normalisation has met.

    Examples
    --------
    >>> tracked_names(Network([2, 3, 1], norm="batch"))
    ['1.num_batches_tracked']
    """
    means = [tensor.name for tensor in network.statistics if tensor.kind == "running_mean"]
    return [name.replace("running_mean", TRACKED) for name in means]


def read(path: str | os.PathLike[str]) -> Stored:
    """Read a checkpoint of this or an older version.

    Needs no memory beyond what is returned, one layer and the header, and none before all sizes are found to be right.
    A CheckpointError says that the file is damaged, no checkpoint, of a newer version, or has NaN or infinity in its
    weights; an OSError that it cannot be read.
    """
    with tensors.opened(path) as file:
        network, config = _parse_metadata(file)
        # first of all, so that no hostile width reaches a product, a message or an allocation
        there = sum(math.prod(entry.shape) for entry in file.tensors.values())
        require(network.n_parameters <= there, "the network of its config needs more bytes than the file has")
        dtype = _check_tensors(file, network)
        stored = Stored(network, np.empty(network.n_parameters, dtype=dtype), config["trainer"])
        for tensor, values in zip(network.tensors, network.views(stored.parameters), strict=True):
            if tensor.size:
                values.T[...] = _finite(file, tensor.name)
        stored.statistics = np.empty(network.n_statistics, dtype=dtype)
        for tensor in network.statistics:
            stored.statistics[tensor.part] = values = _finite(file, tensor.name)
            valid = tensor.kind != "running_var" or bool((values >= 0).all())
            require(valid, f"tensor {tensor.name!r} has numbers below 0, but they are variances")
        stored.batches = [int(file.read(name)) for name in tracked_names(network)]
        if "training" in config:
            stored.training = _parse_training(config["training"])
            names = [name for name in file.tensors if name.startswith(OPTIMIZER)]
            stored.slots = {name.removeprefix(OPTIMIZER): _finite(file, name) for name in names}
        stored.callbacks = _parse_callbacks(file, config.get("callbacks", []))
        return stored


def read_position(path: str | os.PathLike[str]) -> tuple[Network, int]:
    """Return a checkpoint's network, and the steps of its training or 0; raises what `read` does, reads no weights."""
    with tensors.opened(path) as file:
        network, config = _parse_metadata(file)
        return network, _parse_training(config["training"]).step if "training" in config else 0


def _describe_callback(index: int, kind: str, state: Any, arrays: dict[str, Any]) -> dict[str, Any]:
    """Return what JSON keeps of a callback, and add the rest to ``arrays``."""
    values, names = {}, []
    if not isinstance(state, dict):
        raise TypeError(f"state_dict() of the callback {kind} must return a dict, got {state!r}")
    name: Any
    for name, value in state.items():
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, float) and not math.isfinite(value):
            value = np.array(value)
        if isinstance(name, str) and isinstance(value, np.ndarray) and value.dtype.newbyteorder("<") in tensors.CODES:
            names.append(name)
            arrays[f"{CALLBACKS}{index}.{name}"] = value
            continue
        try:
            same = isinstance(name, str) and json.loads(json.dumps(value, allow_nan=False)) == _as_lists(value)
        except (TypeError, ValueError):
            same = False
        if not same:
            found = f"the state of the callback {kind} has {name!r}: {value!r}, which a checkpoint cannot keep"
            raise TypeError(f"{found}; accepted: names, and JSON values or arrays of numbers")
        values[name] = value
    return {"type": kind, "state": values, "arrays": names}


def _as_lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _as_lists(inner) for name, inner in value.items()}
    return list(map(_as_lists, value)) if isinstance(value, (tuple, list)) else value


def _parse_metadata(file: Reader) -> tuple[Network, dict[str, Any]]:
    metadata = file.metadata
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise CheckpointError(f"not a checkpoint of {FORMAT}: its metadata lacks format = {FORMAT!r}")
    version = metadata.get("format_version")
    require(
        version in READABLE,
        f"its format_version is {version!r}, but this briskmlp reads {READABLE[0]} to {READABLE[-1]}",
    )
    require(isinstance(metadata.get("config"), str), "its metadata has no config")
    config = tensors.parse_json(metadata["config"].encode("utf-8", "surrogatepass"), "config")
    if version == "1":  # had no more than these
        config = {name: config[name] for name in ("network", "trainer") if name in config}
    described: Any = config.get("network")
    valid = isinstance(described, dict) and isinstance(config.get("trainer"), dict)
    require(valid, "config lacks the objects 'network' and 'trainer'")
    n = len(described["layers"]) - 1 if isinstance(described.get("layers"), list) else 0
    # before a Network checks millions of them, because each layer has a tensor
    require(n <= len(file.tensors), f"the network of config has {n} layers, more than the file has tensors")
    names = ["layers", "hidden", "output", "bias"]
    names += [name for name in described if name in NORM_ARGUMENTS and version == str(VERSION_WITH_NORMS)]
    try:
        network = Network(**{name: described[name] for name in names})
    except KeyError as error:
        raise CheckpointError(f"the network of config has no {error}") from None
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"the network of config is not valid: {error}") from None
    return network, config


def _check_tensors(file: Reader, network: Network) -> np.dtype[Any]:
    """Check names, shapes and dtypes against the network; return the dtype that its tensors have."""
    expected = {t.name: t.shape[::-1] for t in (*network.tensors, *network.statistics) if t.size}
    tracked = tracked_names(network)
    for name in tracked:
        valid = name in file.tensors and file.tensors[name][:2] == ("I64", ())
        require(valid, f"tensor {name!r} is missing or not one number of I64")
    for name in file.tensors:
        if name.startswith(OPTIMIZER):
            expected[name] = (network.n_parameters,)
        elif name not in (*expected, *tracked) and not name.startswith(CALLBACKS):
            raise CheckpointError(f"tensor {name!r} does not belong to the network {list(network.layers[:20])}")
    code = None
    for name, shape in expected.items():
        require(name in file.tensors, f"tensor {name!r} is missing")
        entry = file.tensors[name]
        code = code or entry.code
        require(code in DTYPES, f"tensor {name!r} has dtype {code!r}, not one of {', '.join(DTYPES)}")
        require(entry.code == code, f"tensor {name!r} has dtype {entry.code!r}, but '0.weight' {code!r}")
        found = list(entry.shape)
        require(entry.shape == shape, f"tensor {name!r} has shape {found}, but the network's has {list(shape)}")
    return tensors.DTYPES[code or "F32"].newbyteorder("=")


def _finite(file: Reader, name: str) -> FloatArray:
    values = file.read(name)
    require(bool(np.isfinite(values).all()), f"tensor {name!r} has NaN or infinity")
    return values


def _parse_training(described: Any) -> Training:
    """Check each value, because kernels trust positions."""
    if not isinstance(described, dict) or described.keys() | {"scalars"} != set(Training._fields):
        raise CheckpointError(f"its training is not an object of {', '.join(Training._fields)}")
    for name in ("epoch", "batch", "step"):
        valid = type(described[name]) is int and 0 <= described[name] <= MAX_COUNT
        require(valid, f"{name} of its training is not a whole number >= 0 and <= 2**53")
    scalars, cut = described.get("scalars", {}), described["unfinished"]
    require(isinstance(scalars, dict), "scalars of its training are not an object")
    for name, value in (*described.items(), *scalars.items()):
        if name in ("loss_sum", "weight_sum", *scalars):
            valid = type(value) in (int, float) and abs(value) <= 1e308
            require(valid, f"{name} of its training is not a finite number")
    valid = cut is None or (isinstance(cut, list) and [*map(type, cut)] == [int, int])
    require(valid, "unfinished of its training is not two whole numbers, nor null")
    backend, isa = described["backend"], described["isa"]
    require(isinstance(backend, str) and (isa is None or isinstance(isa, str)), "its training has no valid backend")
    return Training(**described | {"unfinished": cut if cut is None else tuple(cut)})


def _parse_callbacks(file: Reader, described: Any) -> list[CallbackState]:
    require(isinstance(described, list), "its callbacks are not a list")
    states: list[CallbackState] = []
    for index, callback in enumerate(described):
        types = {name: type(value) for name, value in callback.items()} if isinstance(callback, dict) else {}
        valid = types == {"type": str, "state": dict, "arrays": list}
        require(valid, f"callback {index} is not an object of type, state and arrays")
        state = callback["state"]
        for name in callback["arrays"]:
            tensor = f"{CALLBACKS}{index}.{name}"
            require(isinstance(name, str) and name not in state and tensor in file.tensors, f"{tensor!r} is missing")
            value = file.read(tensor)
            state[name] = value if value.ndim else value.item()
        states.append((callback["type"], state))
    return states
