"""The Trainer: epochs, batches and stopping around a backend's kernels. No mathematics is here."""

from __future__ import annotations

import threading
import warnings
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from briskmlp import checkpoint, configuration
from briskmlp._messages import check_choice, check_integer, check_number
from briskmlp.backends import dispatch, threads
from briskmlp.backends.contract import Position
from briskmlp.callbacks import Callbacks
from briskmlp.history import History
from briskmlp.initializers import Initializer, check_initializer, initialize
from briskmlp.inputs import Inputs, check_inputs, check_targets, check_weight
from briskmlp.losses import check_loss, default_output, target_rules
from briskmlp.metrics import METRICS, check_metrics
from briskmlp.network import FloatArray, Network
from briskmlp.optimizers import OPTIMIZERS, SGD, Optimizer
from briskmlp.plan import PRECISIONS, Floats, Ints, Plan, make_plan
from briskmlp.progress import progress_callback
from briskmlp.random import MAX_SEED, draw_seed, sample_order

SLICE_SECONDS = 0.05  # a kernel call lasts about this long, so that Ctrl-C is answered within 0.2 s
STAGE_BYTES = 64 * 2**20  # what is converted at once of data that is not trained on in place
DTYPES = ("float32", "float64")
MAX_SIZE = 2**63 - 1  # kernels count in int64


class Data(NamedTuple):
    """Checked examples: what one call of ``fit`` or ``evaluate`` is about."""

    inputs: Inputs
    Y: Any
    weight: FloatArray | None


class _Staged(NamedTuple):
    """The order of an epoch whose data are staged, and -n…n-1, of which each stage's order is a view."""

    epoch: int
    order: Ints
    ramp: Ints


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
        An upper bound; None allows what cores, affinity, cgroup quota and environment allow.

    Attributes
    ----------
    network : Network
    parameters : ndarray, shape (n_parameters,)
        All weights and biases, flat and writable; ``weights[l]`` (n_in, n_out) and ``biases[l]`` are views of it.
    epoch : int
        Epochs completed.
    backend, isa : str, str or None
        What was chosen.
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
        if not isinstance(hidden, (str, list, tuple)):
            raise TypeError(f"hidden must be the name of an activation or a list of names, got {hidden!r}")
        if output is None:
            last_hidden = hidden if isinstance(hidden, str) else [*hidden, "sigmoid"][max(len(hidden) - 1, 0)]
            n_out = Network(layers, "identity").n_out
            output = default_output(loss, last_hidden, n_out)
        self.network = Network(layers, hidden, output, bias)
        check_loss(loss, self.network.output)
        self.loss = loss
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"optimizer must be one of {', '.join(OPTIMIZERS)} such as SGD(0.1), got {optimizer!r}")
        self.optimizer = optimizer
        self.batch_size = None if batch_size is None else check_integer("batch_size", batch_size, low=1, high=MAX_SIZE)
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
        self._prepare()
        initialize(self.network, initializer, self.seed, self._parameters)

    def _prepare(self) -> None:
        """Lower the plan, choose the backend, and allocate what belongs to the model."""
        self._plan = make_plan(
            self.network,
            loss=self.loss,
            optimizer=self.optimizer,
            batch_size=self.batch_size or 0,
            l2=self.l2,
            shuffle=self.shuffle,
            seed=self.seed,
            precision=self.precision,
        )
        self._choice = dispatch.choose(self._plan, self.dtype, self._requested)
        self._parameters = _aligned(self._plan.n_parameters, self.dtype)
        self._state = _aligned(self._plan.n_slots * self._plan.n_parameters, self.dtype)
        self._state = self._state.reshape(self._plan.n_slots, self._plan.n_parameters)
        self._position = Position()
        self._unfinished: int | None = None  # checksum of the data of an epoch that was cut
        self._busy = threading.Lock()
        self._workspace: tuple[Any, Any] | None = None
        self._staged: _Staged | None = None

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
        metrics = check_metrics(metrics, labels=(validation or data).Y.ndim == 1)
        prefix = "" if validation is None else "val_"
        names = ["epoch", "loss", "learning_rate", "time"] + ["val_loss"] * (validation is not None)
        hooks = Callbacks(callbacks, names=[*names, *(prefix + name for name in metrics)])
        history = History()
        with self._exclusive(), progress_callback(progress, epochs) as bar:
            hooks.add(bar)
            hooks.on_fit_begin(self)
            self._run(data, epochs, validation, metrics, hooks, history)
            hooks.on_fit_end(self, history)
        return history

    def partial_fit(self, X: Any, Y: Any, sample_weight: Any = None) -> Trainer:
        """Train one epoch on these rows; returns self. Arguments and errors are those of ``fit``."""
        self.fit(X, Y, epochs=1, sample_weight=sample_weight, progress=False)
        return self

    def _run(
        self,
        data: Data,
        epochs: int,
        validation: Data | None,
        metrics: tuple[str, ...],
        hooks: Callbacks,
        history: History,
    ) -> None:
        n = data.inputs.n
        plan = self._plan._replace(batch_size=min(self.batch_size or n, n))
        position = self._position
        self._settle_unfinished(plan, data)
        end = position.epoch + epochs
        one_by_one = bool(validation or metrics or hooks.every_epoch)
        n_batches = -(-n // plan.batch_size)
        steps, elapsed = 1, 0.0
        snapshot = _Snapshot(self._parameters, self._state, position)
        try:
            while position.epoch < end:
                first, first_batch = position.epoch, position.batch
                last = min(end, first + (1 if one_by_one else 1 + steps // n_batches))
                rates = self.optimizer.rates(first, last)
                losses = np.empty(last - first)
                seconds = self._advance(plan, data, rates, steps, losses, snapshot)
                elapsed += seconds
                done = position.epoch - first
                steps = _next_steps(done * n_batches + position.batch - first_batch, seconds)
                if done:
                    history.extend(
                        {
                            "epoch": range(first + 1, first + done + 1),
                            "loss": losses[:done].tolist(),
                            "learning_rate": rates[:done].tolist(),
                            "time": [elapsed / done] * done,
                            **self._scores(data, validation, metrics),
                        }
                    )
                    elapsed = 0.0
                    if hooks.callbacks and hooks.on_epochs(self, history.last(done)):
                        return
        finally:
            self._unfinished = self._checksum(plan, data) if position.batch else None

    def _advance(
        self, plan: Plan, data: Data, rates: Floats, steps: int, losses: Floats, snapshot: _Snapshot
    ) -> float:
        """Make one kernel call; whatever goes wrong, leave the state from before it. Return its seconds."""
        X, Y, weight, order, steps = self._stage(plan, data, steps)
        work = self._work(plan, data.inputs.n)
        snapshot.take()
        start = perf_counter()
        try:
            with threads.blas_threads(self.threads):
                where = self._choice.backend.train(
                    plan,
                    self._parameters,
                    self._state,
                    X,
                    Y,
                    weight,
                    order,
                    self._position,
                    rates,
                    steps,
                    losses,
                    work,
                )
            if where is None and not np.isfinite(self._parameters).all():
                where = self._position.epoch, self._position.batch
        except BaseException:
            snapshot.restore()
            raise
        if where is not None:
            snapshot.restore()
            raise FloatingPointError(
                f"training diverged: the loss is not finite in epoch {where[0]}, batch {where[1]} (counted from 0); "
                f"the weights are back at epoch {self._position.epoch}, batch {self._position.batch}. "
                f"Lower the learning rate ({rates[0]:g})"
            )
        return perf_counter() - start

    def _stage(self, plan: Plan, data: Data, steps: int) -> tuple[FloatArray, Any, FloatArray | None, Any, int]:
        """Return arrays that a kernel can read, the order over them, and how many steps they serve."""
        inputs, Y, weight = data
        if inputs.array is not None:
            return inputs.array, Y, weight, None, steps
        n, batch = inputs.n, self._position.batch
        steps = max(1, min(steps, STAGE_BYTES // (plan.batch_size * self.network.n_in * self.dtype.itemsize)))
        start = batch * plan.batch_size
        if self._staged is None or self._staged.epoch != self._position.epoch or len(self._staged.order) != n:
            order = sample_order(self.seed, self._position.epoch, n) if self.shuffle else np.arange(n, dtype=np.int64)
            self._staged = _Staged(self._position.epoch, order, np.arange(-n, n, dtype=np.int64))
        rows = self._staged.order[start : start + steps * plan.batch_size]
        # Places in the epoch's order count from 0, rows of the stage from its first: place p holds row p - start.
        places = self._staged.ramp[n - start : 2 * n - start]
        return inputs.take(rows), Y[rows], None if weight is None else weight[rows], places, steps

    def _work(self, plan: Plan, n: int) -> Any:
        """Return the training workspace, allocated at first use and kept for the next ``fit`` of this shape."""
        key = plan.batch_size, n
        if self._workspace is None or self._workspace[0] != key:
            self._workspace = None  # free the old one first
            self._workspace = key, self._choice.backend.workspace(plan, self.dtype, n)
        return self._workspace[1]

    def _scores(self, data: Data, validation: Data | None, metrics: tuple[str, ...]) -> dict[str, list[float]]:
        """Return the validation loss and the metrics as they are now, one value each."""
        scores = {} if validation is None else {"val_loss": [self._evaluate(validation)]}
        if metrics:
            prefix, scored = ("", data) if validation is None else ("val_", validation)
            A = self._predict(scored.inputs)
            scores |= {prefix + name: [METRICS[name](A, scored.Y, scored.weight)] for name in metrics}
        return scores

    def _settle_unfinished(self, plan: Plan, data: Data) -> None:
        """Go on with an epoch that was cut if the data are the same; otherwise drop it."""
        if self._position.batch and self._unfinished != self._checksum(plan, data):
            warnings.warn(
                f"epoch {self._position.epoch} was cut after {self._position.batch} batches and is dropped, because "
                "this fit has other data or another batch size; what its batches taught stays in the weights",
                UserWarning,
                stacklevel=4,
            )
            self._position.drop_epoch()

    def _checksum(self, plan: Plan, data: Data) -> int:
        """Return a checksum over the shape of the data and up to 64 of its rows."""
        n = data.inputs.n
        rows = np.unique(np.linspace(0, n - 1, min(n, 64)).astype(np.int64))
        checksum = zlib.crc32(repr((n, plan.batch_size, data.Y.shape, data.weight is None)).encode())
        for part in (data.inputs.take(rows), data.Y[rows], None if data.weight is None else data.weight[rows]):
            checksum = checksum if part is None else zlib.crc32(np.ascontiguousarray(part), checksum)
        return checksum

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        if not self._busy.acquire(blocking=False):
            raise RuntimeError("another fit of this Trainer is running; a Trainer trains in one thread at a time")
        try:
            yield
        finally:
            self._busy.release()

    # --- what a trained network says ---------------------------------------------------------------------------------

    def predict(self, X: Any, out: FloatArray | None = None) -> FloatArray:
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
            if not isinstance(out, np.ndarray) or out.dtype != self.dtype or out.shape != wanted:
                came = f"{out.dtype} {out.shape}" if isinstance(out, np.ndarray) else repr(type(out).__name__)
                raise ValueError(f"out is {came}, but must be an ndarray of {self.dtype} {wanted}")
            if not (out.flags.c_contiguous and out.flags.writeable):
                raise ValueError("out must be C-contiguous and writable")
        return self._predict(inputs, out)

    def _predict(self, inputs: Inputs, out: FloatArray | None = None) -> FloatArray:
        if out is None:
            out = np.empty((inputs.n, self.network.n_out), dtype=self.dtype)
        backend = self._choice.backend
        with threads.blas_threads(self.threads):
            for chunk, X, rows, work in self._chunks(inputs):
                backend.forward(self._plan, self._parameters, X, rows, out[chunk], work)
        return out

    def evaluate(self, X: Any, Y: Any, sample_weight: Any = None) -> float:
        """Return the loss over these rows, divided by their weight; the l2 term is left out.

        Parameters and errors are those of ``fit``.
        """
        return self._evaluate(self._check_data(X, Y, sample_weight))

    def _evaluate(self, data: Data) -> float:
        plan = self._plan.without_l2()
        total, backend = 0.0, self._choice.backend
        with threads.blas_threads(self.threads):
            for chunk, X, rows, work in self._chunks(data.inputs):
                weight = None if data.weight is None else data.weight[chunk]
                total += backend.gradient(plan, self._parameters, X, data.Y[chunk], weight, rows, 1.0, None, work)
        return total / _total_weight(data)

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
        data = self._check_data(X, Y, sample_weight)
        grad = np.zeros(self._plan.n_parameters, dtype=self.dtype)
        plan, total, scale = self._plan, 0.0, 1.0 / _total_weight(data)
        with threads.blas_threads(self.threads):
            for chunk, X, rows, work in self._chunks(data.inputs, training=True):
                weight = None if data.weight is None else data.weight[chunk]
                total += self._choice.backend.gradient(
                    plan, self._parameters, X, data.Y[chunk], weight, rows, scale, grad, work
                )
                plan = plan.without_l2()  # once per batch
        return total * scale, Gradient(self.network, grad)

    def _chunks(self, inputs: Inputs, *, training: bool = False) -> Iterator[tuple[slice, FloatArray, Ints, Any]]:
        """Yield chunks of rows: their place, an array that holds them, their rows in it, and a workspace."""
        n = inputs.n
        row_bytes = max(self.network.layers) * self.dtype.itemsize
        size = min(n, max(1, STAGE_BYTES // row_bytes))
        work = self._choice.backend.workspace(self._plan, self.dtype, size, training=training)
        index = np.arange(size, dtype=np.int64)
        for start in range(0, n, size):
            chunk = slice(start, min(start + size, n))
            X = inputs.take(chunk) if inputs.array is None else inputs.array[chunk]
            yield chunk, X, index[: len(X)], work

    # --- what it is --------------------------------------------------------------------------------------------------

    @property
    def parameters(self) -> FloatArray:
        """All weights and biases, flat: (n_parameters,), writable; W1 b1 W2 b2 …"""
        return self._parameters

    @property
    def weights(self) -> list[FloatArray]:
        """Writable views (n_in, n_out) of each layer's weights; ``weights[0]`` is the mathematics' W[1]."""
        return self.network.weights(self._parameters)

    @property
    def biases(self) -> list[FloatArray]:
        """Writable views of each layer's biases: (n_out,); (1,) when shared by the layer, (0,) for none."""
        return self.network.biases(self._parameters)

    @property
    def epoch(self) -> int:
        """Epochs completed."""
        return self._position.epoch

    @property
    def backend(self) -> str:
        """Name of the backend that was chosen."""
        return self._choice.backend.NAME

    @property
    def isa(self) -> str | None:
        """Instruction set of the native backend; None on the others."""
        return None

    def explain(self) -> str:
        """Return why this backend was chosen and the others were not, the threads, and the memory needed."""
        lines = [f"backend: {self.backend}"]
        reasons = dispatch.reasons(self._choice, self._plan, self.dtype)
        lines += [f"  {name}: {reason}" for name, reason in reasons.items()]
        limit = threads.thread_limit(self.threads)
        lines.append(f"threads: at most {limit}" + (" (None: as many as may run)" if self.threads is None else ""))
        lines.append(self.network.summary(self.dtype.name).splitlines()[-1])
        lines.append(f"optimizer state: {self._state.nbytes:,} bytes, and a copy of parameters and state while fitting")
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
        checkpoint.write(path, self.network, self._parameters, self.configuration)

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
        dropped = ("_plan", "_choice", "_busy", "_workspace", "_staged")
        return {name: value for name, value in self.__dict__.items() if name not in dropped}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._prepare()
        np.copyto(self._parameters, state["_parameters"])
        np.copyto(self._state, state["_state"])
        self._position.copy_from(state["_position"])
        self._unfinished = state["_unfinished"]

    # --- checks ------------------------------------------------------------------------------------------------------

    def _check_data(self, X: Any, Y: Any, sample_weight: Any = None, suffix: str = "") -> Data:
        n_labels, probabilities = target_rules(self.loss, self.network)
        inputs = check_inputs(X, self.network.n_in, self.dtype, name=f"{suffix}X")
        targets = check_targets(
            Y, inputs.n, self.network.n_out, n_labels, self.dtype, name=f"{suffix}Y", probabilities=probabilities
        )
        return Data(inputs, targets, check_weight(sample_weight, inputs.n, self.dtype, f"{suffix}sample_weight"))

    def _check_validation(self, validation_data: Any) -> Data | None:
        if validation_data is None:
            return None
        if not isinstance(validation_data, (tuple, list)) or len(validation_data) not in (2, 3):
            came = type(validation_data).__name__
            if isinstance(validation_data, (tuple, list)):
                came += f" of {len(validation_data)}"
            raise TypeError(f"validation_data must be (X, Y) or (X, Y, sample_weight), got a {came}")
        return self._check_data(*validation_data, suffix="validation ")


class _Snapshot:
    """A copy of what a kernel call changes, to go back to when the call fails or is interrupted."""

    def __init__(self, parameters: FloatArray, state: FloatArray, position: Position) -> None:
        self._live, self._position = (parameters, state), position
        self._kept, self._kept_position = (np.empty_like(parameters), np.empty_like(state)), Position()

    def take(self) -> None:
        for kept, live in zip(self._kept, self._live, strict=True):
            np.copyto(kept, live)
        self._kept_position.copy_from(self._position)

    def restore(self) -> None:
        for kept, live in zip(self._kept, self._live, strict=True):
            np.copyto(live, kept)
        self._position.copy_from(self._kept_position)


def _next_steps(made: int, seconds: float) -> int:
    """Return how many steps the next kernel call may make, so that it lasts about SLICE_SECONDS."""
    return max(1, min(made * 8, int(made * SLICE_SECONDS / max(seconds, 1e-9))))


def _total_weight(data: Data) -> float:
    return float(data.inputs.n if data.weight is None else data.weight.sum(dtype=np.float64))


def _aligned(n: int, dtype: np.dtype[Any]) -> FloatArray:
    """Return ``n`` zeros that start on a cache line."""
    line = 64 // dtype.itemsize
    buffer = np.zeros(n + line, dtype=dtype)
    start = (-buffer.ctypes.data // dtype.itemsize) % line
    aligned: FloatArray = buffer[start : start + n]
    return aligned


def _check_dtype(dtype: Any) -> np.dtype[Any]:
    try:
        name = None if dtype is None else np.dtype(dtype).name  # NumPy reads None as float64
    except TypeError:
        name = dtype
    return np.dtype(check_choice("dtype", name, DTYPES))


def _refuse(argument: str, value: Any, accepted: Any) -> None:
    if value != accepted:
        raise ValueError(f"{argument} is {value!r}, but this version trains without it; accepted is {accepted!r}")
