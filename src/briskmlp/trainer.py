"""The Trainer: what users call, and the checks of what they pass. No mathematics is here, and no instruction set."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from typing import Any

import numpy as np

from briskmlp import checkpoint, configuration
from briskmlp._messages import check_choice, check_integer, check_number, describe_bytes
from briskmlp.backends import dispatch
from briskmlp.backends.threads import thread_limit
from briskmlp.callbacks import Callbacks
from briskmlp.engine import Data, Engine
from briskmlp.history import History
from briskmlp.initializers import Initializer, check_initializer, initialize
from briskmlp.inputs import check_inputs, check_targets, check_weight
from briskmlp.losses import check_loss, default_output, target_rules
from briskmlp.metrics import check_metrics
from briskmlp.network import MAX_SIZE, FloatArray, Network
from briskmlp.optimizers import OPTIMIZERS, SGD, Optimizer
from briskmlp.plan import PRECISIONS, make_plan
from briskmlp.progress import progress_callback
from briskmlp.random import MAX_SEED, draw_seed
from briskmlp.training import run

DTYPES = ("float32", "float64")
# what the plan and the backend were made of
_FIXED = ("network", "loss", "optimizer", "l2", "dtype", "precision", "shuffle", "seed", "threads")


class Gradient:
    """The gradient of the loss, laid out as the parameters are.

    Attributes
    ----------
    flat : ndarray, shape (n_parameters,)
    weights : list of ndarray, (n_in, n_out) each
        Views of ``flat``.
    biases : list of ndarray, (n_out,) each; (1,) when shared by the layer, (0,) for none
        Views of ``flat``.
    """

    def __init__(self, network: Network, flat: FloatArray) -> None:
        self.flat = flat
        self.weights = network.weights(flat)
        self.biases = network.biases(flat)


class Trainer:
    """Trains a dense network by backpropagation, on the fastest backend present.

    Parameters
    ----------
    layers : sequence of int
        Widths from input to output, such as ``[784, 100, 10]``.
    hidden : str or sequence of str
        Activation of the hidden layers, ``"sigmoid" "tanh" "relu" "identity"``: one name, or one per layer.
    output : str, optional
        As ``hidden``, or ``"softmax"``. Default: with mse, as the last hidden layer; with cross_entropy, softmax for
        two or more output neurons and sigmoid for one.
    loss : {"mse", "cross_entropy"}
        ``mse`` is E = 1/n Σ_examples Σ_outputs (A - Y)². PyTorch's MSELoss also divides by n_out, and scikit-learn
        halves: multiply the learning rate by 1/n_out or 1/2 to follow them.
    optimizer : SGD, Adam, AdamW or RMSprop
    batch_size : int or None
        Clipped to the number of examples; None means all of them.
    l2 : float
        Adds l2/2 · Σ W² / n to the loss of each step (scikit-learn's alpha).
    dropout, clip_norm
        Not in this version: must be 0.0 and None.
    bias : {"neuron", "layer", "none"}
    initializer : {"glorot", "he"}, flat ndarray, sequence of (W, b), or None
        See `briskmlp.initializers.initialize`.
    dtype : {"float32", "float64"}
    precision : {"highest"}
    shuffle : bool
        Visit the examples of each epoch in a new order, which follows from the seed and the epoch.
    seed : int in [0, 2**64), optional
        None draws one and stores it in ``seed``.
    backend : {"auto", "native", "numba", "numpy"}
    threads : int, optional
        An upper bound; None allows what cores, affinity, cgroup quota and environment allow. A number is bound by
        CPU affinity alone.

    Attributes
    ----------
    network : Network
    parameters : ndarray, shape (n_parameters,)
        All weights and biases, flat and writable; ``weights[l]`` (n_in, n_out) and ``biases[l]`` are views of it.
    epoch : int
        Epochs completed.
    backend, isa : str, str or None
        What was chosen at construction, or on loading and unpickling.
    seed : int

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    >>> trainer = Trainer([2, 4, 1], optimizer=SGD(4.0), batch_size=4, seed=1, backend="numpy")
    >>> history = trainer.fit(X, X[:, 0] ^ X[:, 1], epochs=1000)
    >>> trainer.predict(X).round().ravel()
    array([0., 1., 1., 0.], dtype=float32)
    """

    def __init__(
        self,
        layers: Sequence[int],
        *,
        hidden: str | Sequence[str] = "sigmoid",
        output: str | None = None,
        loss: str = "mse",
        optimizer: Optimizer = SGD(0.1),  # noqa: B008 - frozen
        batch_size: int | None = 32,
        l2: float = 0.0,
        dropout: float = 0.0,
        clip_norm: float | None = None,
        bias: str = "neuron",
        initializer: Initializer = None,
        dtype: Any = "float32",
        precision: str = "highest",
        shuffle: bool = True,
        seed: int | None = None,
        backend: str = "auto",
        threads: int | None = None,
    ) -> None:
        _refuse("dropout", dropout, 0.0)
        _refuse("clip_norm", clip_norm, None)
        if output is None:
            drawn = Network(layers, hidden)  # checks both
            last_hidden = hidden if isinstance(hidden, str) else (drawn.hidden or ("sigmoid",))[-1]
            output = default_output(loss, last_hidden, drawn.n_out)
        self.network = Network(layers, hidden, output, bias)
        check_loss(loss, self.network.output)
        self.loss = loss
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"optimizer must be one of {', '.join(OPTIMIZERS)} such as SGD(0.1), got {optimizer!r}")
        self.optimizer = optimizer
        self.batch_size = batch_size
        self.l2 = check_number("l2", l2, low=0.0)
        self.dtype = _check_dtype(dtype)
        self.precision = check_choice("precision", precision, PRECISIONS)
        if not isinstance(shuffle, (bool, np.bool_)):
            raise TypeError(f"shuffle must be True or False, got {shuffle!r}")
        self.shuffle = bool(shuffle)
        self.seed = draw_seed() if seed is None else check_integer("seed", seed, low=0, high=MAX_SEED)
        self.threads = None if threads is None else check_integer("threads", threads, low=1)
        check_initializer(initializer)
        self._requested = backend
        self._process, self._busy = os.getpid(), threading.Lock()
        self._engine = self._make_engine()
        initialize(self.network, initializer, self.seed, self.parameters)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _FIXED and name in self.__dict__:
            raise AttributeError(
                f"{name} cannot be changed after construction; make a new Trainer with initializer=trainer.parameters"
            )
        if name == "batch_size" and value is not None:
            value = check_integer("batch_size", value, low=1, high=MAX_SIZE)
        super().__setattr__(name, value)

    def _make_engine(self) -> Engine:
        """Lower the arguments to a plan, and choose what runs it."""
        plan = make_plan(
            self.network,
            loss=self.loss,
            optimizer=self.optimizer,
            batch_size=self.batch_size or 0,
            l2=self.l2,
            shuffle=self.shuffle,
            seed=self.seed,
            precision=self.precision,
        )
        return Engine(plan, self.dtype, self._requested, self.threads)

    # --- training ----------------------------------------------------------------------------------------------------

    def fit(
        self,
        X: Any,
        Y: Any,
        *,
        epochs: int,
        sample_weight: Any = None,
        validation_data: tuple[Any, ...] | None = None,
        callbacks: Iterable[Any] = (),
        metrics: Sequence[str] = (),
        progress: bool | None = None,
    ) -> History:
        """Train ``epochs`` more epochs.

        Weights, optimizer state and ``epoch`` go on from the last call. An epoch that was cut by Ctrl-C is finished
        first and counts as one; with other data it is dropped with a warning.

        Parameters
        ----------
        X : array_like, shape (n,), (n, d) or (n, …)
            Scalars, features, or arrays that are flattened: of any real dtype and layout, memory-mapped or sparse too.
        Y : array_like, shape (n, n_out); or (n,) for one output, or for integer labels with cross_entropy
        epochs : int
        sample_weight : array_like, shape (n,), optional
        validation_data : (X, Y) or (X, Y, sample_weight), optional
            Evaluated after each epoch into ``val_loss``, and with ``metrics`` into ``val_accuracy`` …
        callbacks : iterable
            Objects with some of ``on_fit_begin(trainer)``, ``on_epoch_end(trainer, record)``, which returns True to
            stop, and ``on_fit_end(trainer, history)``.
        metrics : sequence of {"accuracy", "mae"}
            Computed after each epoch, on the validation data if there are any, else on X and Y.
        progress : bool, optional
            Show a progress bar; None shows it on a terminal only.

        Returns
        -------
        History
            Of this call. ``loss`` is Σ batch loss·weight / Σ weight, each batch's taken before its update.

        Raises
        ------
        ValueError, TypeError
            Bad input; nothing has changed.
        FloatingPointError
            Training diverged; the weights are those from before the kernel call that did.
        KeyboardInterrupt
            On Ctrl-C, between two batches; the next ``fit`` goes on from there.
        RuntimeError
            Another ``fit`` of this Trainer is running.
        """
        epochs = check_integer("epochs", epochs, low=1)
        data = self._check_data(X, Y, sample_weight)
        validation = self._check_validation(validation_data)
        metrics = check_metrics(metrics, labels=(data if validation is None else validation).Y.ndim == 1)
        prefix = "" if validation is None else "val_"
        names = ["epoch", "loss", "learning_rate", "time"] + ["val_loss"] * (validation is not None)
        hooks = Callbacks(callbacks, names=[*names, *(prefix + name for name in metrics)])
        history = History()
        with self._exclusive(), progress_callback(progress, epochs) as bar:
            hooks.add(bar)
            hooks.on_fit_begin(self)
            run(self, self._engine, data, epochs, validation, metrics, hooks, history)
            hooks.on_fit_end(self, history)
        return history

    def partial_fit(self, X: Any, Y: Any, sample_weight: Any = None) -> Trainer:
        """Train one epoch on these rows; returns self. Arguments and errors are those of ``fit``."""
        self.fit(X, Y, epochs=1, sample_weight=sample_weight, progress=False)
        return self

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        if self._process != os.getpid():  # a fork inherits a held lock, but not the thread that would release it
            self._process, self._busy = os.getpid(), threading.Lock()
            self._engine.recover()
        if not self._busy.acquire(blocking=False):
            raise RuntimeError("another fit of this Trainer is running; a Trainer trains in one thread at a time")
        try:
            yield
        finally:
            self._busy.release()

    # --- what a trained network says ---------------------------------------------------------------------------------

    def predict(self, X: Any, out: Any = None) -> FloatArray:
        """Return the last activations, shape (n, n_out), computed in bounded chunks.

        Parameters
        ----------
        X : array_like, as in ``fit``
        out : ndarray, shape (n, n_out), of the trainer's dtype, C order, optional
            Written to and returned.
        """
        inputs = check_inputs(X, self.network.n_in, self.dtype)
        if out is not None:
            wanted = (inputs.n, self.network.n_out)
            came = f"{out.dtype} {out.shape}" if isinstance(out, np.ndarray) else repr(type(out).__name__)
            if came != f"{self.dtype} {wanted}":
                raise ValueError(f"out is {came}, but must be an ndarray of {self.dtype} {wanted}")
            if not (out.flags.c_contiguous and out.flags.writeable):
                raise ValueError("out must be C-contiguous and writable")
        return self._engine.predict(inputs, out)

    def evaluate(self, X: Any, Y: Any, sample_weight: Any = None) -> float:
        """Return the loss over these rows, divided by their weight; the l2 term is left out.

        Parameters and errors are those of ``fit``.
        """
        return self._engine.loss(self._check_data(X, Y, sample_weight))

    def loss_and_gradient(self, X: Any, Y: Any, sample_weight: Any = None) -> tuple[float, Gradient]:
        """Return what backpropagation computes for these rows as one batch: the loss, l2 included, and its gradient.

        Parameters and errors are those of ``fit``. The gradient's arrays are new at each call.

        Examples
        --------
        >>> trainer = Trainer([1, 1], hidden="identity", initializer=[([[2.0]], [0.0])], output="identity")
        >>> E, gradient = trainer.loss_and_gradient([3.0], [5.0])
        >>> E, gradient.weights[0]
        (1.0, array([[6.]], dtype=float32))
        """
        E, flat = self._engine.gradient(self._check_data(X, Y, sample_weight))
        return E, Gradient(self.network, flat)

    # --- what it is --------------------------------------------------------------------------------------------------

    @property
    def parameters(self) -> FloatArray:
        """All weights and biases, W1 b1 W2 b2 …, flat: (n_parameters,), writable."""
        return self._engine.parameters

    @property
    def weights(self) -> list[FloatArray]:
        """Writable views (n_in, n_out) of each layer's weights; ``weights[0]`` is the mathematics' W[1]."""
        return self.network.weights(self.parameters)

    @property
    def biases(self) -> list[FloatArray]:
        """Writable views of each layer's biases: (n_out,); (1,) when shared by the layer, (0,) for none."""
        return self.network.biases(self.parameters)

    @property
    def epoch(self) -> int:
        """Epochs completed."""
        return self._engine.position.epoch

    @property
    def backend(self) -> str:
        """Name of the backend that was chosen."""
        return self._engine.choice.backend.NAME

    @property
    def isa(self) -> str | None:
        """Instruction set of the native backend, such as ``"avx512"``; None on the others."""
        return self._engine.choice.isa

    def explain(self) -> str:
        """Return why this backend was chosen and the others were not, the threads, and the memory needed."""
        engine = self._engine
        lines = [f"backend: {self.backend}" + (f" with {self.isa}" if self.isa else "")]
        reasons = dispatch.reasons(engine.choice, engine.plan, self.dtype)
        lines += [f"  {name}: {reason}" for name, reason in reasons.items()]
        lines.append(f"threads: at most {thread_limit(self.threads)}")
        lines.append(self.network.summary(self.dtype.name).splitlines()[-1])
        lines.append(f"memory: about {describe_bytes(engine.memory())} while training, beside the data")
        return "\n".join(lines)

    def __repr__(self) -> str:
        layers, net = list(self.network.layers), self.network
        return (
            f"Trainer({layers}, hidden={net.hidden!r}, output={net.output!r}, loss={self.loss!r}, "
            f"optimizer={self.optimizer!r}, dtype={self.dtype.name!r}, backend={self.backend!r}, epoch={self.epoch})"
        )

    # --- keeping it --------------------------------------------------------------------------------------------------

    @property
    def configuration(self) -> dict[str, Any]:
        """The constructor's arguments other than the architecture, as JSON values."""
        return configuration.describe(self)

    def save(self, path: str | PathLike[str]) -> None:
        """Write weights and configuration to a safetensors file, in place of what is there once it is whole.

        Optimizer state and ``epoch`` are not kept in this version.

        Raises
        ------
        TypeError
            The learning-rate schedule is the user's own and cannot be described.
        OSError
            The file cannot be written; an old one is still there.
        """
        checkpoint.write(path, self.network, self.parameters, self.configuration)

    @classmethod
    def load(cls, path: str | PathLike[str], *, backend: str = "auto", threads: int | None = None) -> Trainer:
        """Return a Trainer with the weights and configuration of a file that ``save`` wrote, at epoch 0.

        Raises
        ------
        CheckpointError
            The file is not one of ours, is damaged, or comes from a newer version.
        """
        network, parameters, described = checkpoint.read(path)
        arguments = configuration.restore(described)
        return cls(
            network.layers,
            hidden=network.hidden,
            output=network.output,
            bias=network.bias,
            initializer=parameters,
            dtype=parameters.dtype,
            backend=backend,
            threads=threads,
            **arguments,
        )

    def __getstate__(self) -> dict[str, Any]:
        state = {name: value for name, value in self.__dict__.items() if name != "_busy"}
        return state | {"_engine": self._engine.learned()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _process=os.getpid(), _busy=threading.Lock())
        self._engine = self._make_engine()
        self._engine.take_over(state["_engine"])

    # --- checks ------------------------------------------------------------------------------------------------------

    def _check_data(self, X: Any, Y: Any, sample_weight: Any = None, *, prefix: str = "") -> Data:
        n_labels, probabilities = target_rules(self.loss, self.network)
        inputs = check_inputs(X, self.network.n_in, self.dtype, name=f"{prefix}X")
        targets = check_targets(
            Y, inputs.n, self.network.n_out, n_labels, self.dtype, name=f"{prefix}Y", probabilities=probabilities
        )
        return Data(inputs, targets, check_weight(sample_weight, inputs.n, self.dtype, f"{prefix}sample_weight"))

    def _check_validation(self, validation_data: Any) -> Data | None:
        if validation_data is None:
            return None
        if not isinstance(validation_data, (tuple, list)) or len(validation_data) not in (2, 3):
            came = type(validation_data).__name__
            if isinstance(validation_data, (tuple, list)):
                came += f" of {len(validation_data)}"
            raise TypeError(f"validation_data must be (X, Y) or (X, Y, sample_weight), got a {came}")
        X, Y, *weight = validation_data
        return self._check_data(X, Y, *weight, prefix="validation ")


def _check_dtype(dtype: Any) -> np.dtype[Any]:
    try:
        name = None if dtype is None else np.dtype(dtype).name  # NumPy reads None as float64
    except TypeError:
        name = dtype
    return np.dtype(check_choice("dtype", name, DTYPES))


def _refuse(argument: str, value: Any, accepted: Any) -> None:
    if not (value is accepted or (isinstance(value, (int, float)) and value == accepted)):
        raise ValueError(f"{argument} is {value!r}, but this version trains without it; accepted is {accepted!r}")
