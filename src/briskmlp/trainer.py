"""The Trainer: what users call, and the checks of what they pass. No mathematics is here, and no instruction set."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from os import PathLike
from typing import Any

import numpy as np

from briskmlp._messages import check_choice, check_each, check_fraction, check_integer, check_number
from briskmlp.callbacks import Callbacks, states_of
from briskmlp.callbacks.hooks import Pending
from briskmlp.data.examples import Data, check_batches, check_validation
from briskmlp.history import History
from briskmlp.initializers import Initializer, check_initializer, initialize
from briskmlp.losses import check_loss, default_output
from briskmlp.metrics import METRICS, check_metrics
from briskmlp.network import MAX_SIZE, Network
from briskmlp.network import Gradient as Gradient  # noqa: PLC0414 - its public home
from briskmlp.operations.activations import ActivationLike
from briskmlp.operations.layers import NormLike
from briskmlp.optimizers import OPTIMIZERS, SGD, Optimizer
from briskmlp.plan import PRECISIONS, make_plan
from briskmlp.predictor import Predictor
from briskmlp.profiling import Profile
from briskmlp.progress import progress_callback
from briskmlp.random import MAX_SEED, draw_seed
from briskmlp.session import Completed, Session, TrainingState, drive
from briskmlp.storage import checkpoint, configuration
from briskmlp.storage.checkpoint import CheckpointError, Training
from briskmlp.storage.tensors import shortened

DTYPES = ("float32", "float64")
# what the plan and the backend were made of
_FIXED = (
    "network", "loss", "optimizer", "l2", "dropout", "clip_norm", "dtype", "precision", "shuffle", "seed", "threads",
)  # fmt: skip


class Trainer(Predictor):
    """Trains a dense network by backpropagation, on the fastest backend present.

    Parameters
    ----------
    layers : sequence of int
        Widths from input to output, such as ``[784, 100, 10]``.
    hidden : str, activation object, or sequence of these
        Activation of the hidden layers, one or one per layer: ``"sigmoid" "tanh" "relu" "identity" "leaky_relu" "elu"
        "selu" "celu" "softplus" "softsign" "hardtanh" "relu6" "log_sigmoid" "gelu" "gelu_tanh" "silu" "mish"
        "hardswish"``, with PyTorch's definitions and defaults; or with parameters, `LeakyReLU`, `ELU`, `CELU`,
        `Softplus` or `Hardtanh`, such as ``LeakyReLU(0.2)`` or its text ``"leaky_relu(0.2)"``.
    output : str or activation object, optional
        As ``hidden``, or ``"softmax"``, or ``"exp"``. Default: with cross_entropy, softmax for two or more output
        neurons and sigmoid for one; with poisson, exp; with the others, as the last hidden layer.
    loss : {"mse", "cross_entropy", "poisson", "absolute_error", "huber"}
        E = 1/n Σ_examples Σ_outputs of: ``(A - Y)²`` for mse; ``-Y log A`` for cross_entropy with softmax,
        ``-Y log A - (1-Y) log(1-A)`` with sigmoid; ``A - Y + Y log(Y/A)``, half the deviance, for poisson, whose Y are
        counts >= 0 and whose output is exp or softplus; ``|A - Y|`` for absolute_error; for huber ``(A - Y)²/2`` where
        ``|A - Y| <= 1``, and ``|A - Y| - 1/2`` beyond. PyTorch's MSELoss, L1Loss and HuberLoss also divide by n_out,
        and scikit-learn halves the mse: multiply the learning rate by 1/n_out or 1/2 to follow them.
    optimizer : SGD, Adam, AdamW, NAdam, RAdam, Adamax, Adagrad, Adadelta or RMSprop
        With a learning rate, or a schedule of it by epochs.
    batch_size : int or None
        Clipped to the number of examples; None means all of them.
    l2 : float
        Adds l2/2 · Σ W² / n to the loss of each step (scikit-learn's alpha).
    dropout : float or sequence of float, in [0, 1)
        The share of each hidden layer's activations that a step of training sets to 0, to multiples of 2**-16; the
        others are divided by what is left. One for all hidden layers, or one each. Which ones follows from the seed,
        the epoch and an example's place in it. ``predict``, ``evaluate`` and ``loss_and_gradient`` drop nothing.
    clip_norm : float > 0, optional
        A step whose whole gradient, l2 included, is longer is scaled to this length. None allows any.
    norm : {None, "batch", "layer"}, BatchNorm, LayerNorm, or sequence of these
        Normalisation in the hidden layers, one for all or one for each: of each neuron over a batch, or of each example
        over a layer's neurons, with PyTorch's definitions and defaults; `BatchNorm` and `LayerNorm` have others.
        ``fit`` and ``loss_and_gradient`` normalise by the batch's own mean and variance, ``predict`` and ``evaluate``
        by the running ones, ``statistics``, which training moves. No batch may then be of one row.
    norm_position : {"before", "after"}, or sequence of these
        Before the activation or after it; dropout comes after both.
    input_norm, output_norm : one as of norm, optional
        Normalisation of the input, before the first layer, and of the last layer's sums.
    bias : {"neuron", "layer", "none"}
        One bias per neuron; one shared by all neurons of a layer, as where textbooks draw B1 and B2; or none.
    initializer : {"glorot", "he"}, flat ndarray, sequence of (W, b), or None
        See `briskmlp.initializers.initialize`.
    dtype : {"float32", "float64"}
        Of parameters, data and arithmetic; an epoch's loss is summed in float64.
    precision : {"highest", "high", "bfloat16"}
        What the products of a step read of each number. ``"highest"``: all of it, in ``dtype``. The others need
        float32: ``"bfloat16"`` reads 8 significant bits, with errors below 2**-7 of ``|A| @ |B|``, ``"high"`` two such
        parts, below 2**-15; sums, weights and updates stay float32. AVX-512 BF16 instructions compute
        ``"bfloat16"`` where the processor has them (``isa`` is then ``"avx512_bf16"``), with layers of hundreds of
        neurons about 1.5 to 1.9 times as fast as ``"highest"``; elsewhere it is emulated in float32, at its speed.
        ``"high"`` is slower than ``"highest"`` either way.
    shuffle : bool
        Visit the examples of each epoch in a new order, which follows from the seed and the epoch.
    seed : int in [0, 2**64), optional
        None draws one and stores it in ``seed``.
    backend : {"auto", "native", "numba", "numpy"}
        ``"auto"`` takes the fastest that can run this network here, unless the environment names one.
    threads : int, optional
        An upper bound; None allows what cores, affinity, cgroup quota and environment allow. A number is bound by
        CPU affinity alone.

    Attributes
    ----------
    network : Network
    parameters : ndarray, shape (n_parameters,)
        All weights and biases, flat and writable; ``weights[l]`` (n_in, n_out) and ``biases[l]`` are views of it, as
        are ``gammas`` and ``betas`` of normalisations.
    statistics : list of Statistics
        ``mean`` and ``variance``, (n,) each, of each batch normalisation: writable views.
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
        hidden: ActivationLike | Sequence[ActivationLike] = "sigmoid",
        output: ActivationLike | None = None,
        loss: str = "mse",
        optimizer: Optimizer = SGD(0.1),  # noqa: B008 - frozen
        batch_size: int | None = 32,
        l2: float = 0.0,
        dropout: float | Sequence[float] = 0.0,
        clip_norm: float | None = None,
        norm: NormLike | Sequence[NormLike | None] | None = None,
        norm_position: str | Sequence[str] = "before",
        input_norm: NormLike | None = None,
        output_norm: NormLike | None = None,
        bias: str = "neuron",
        initializer: Initializer = None,
        dtype: Any = "float32",
        precision: str = "highest",
        shuffle: bool = True,
        seed: int | None = None,
        backend: str = "auto",
        threads: int | None = None,
    ) -> None:
        if output is None:
            drawn = Network(layers, hidden)  # checks both
            last_hidden = hidden if isinstance(hidden, ActivationLike) else (drawn.hidden or ("sigmoid",))[-1]
            output = default_output(loss, last_hidden, drawn.n_out)
        self.network = Network(layers, hidden, output, bias, norm, norm_position, input_norm, output_norm)
        check_loss(loss, self.network.output)
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"optimizer must be one of {', '.join(OPTIMIZERS)} such as SGD(0.1), got {optimizer!r}")
        self.loss, self.optimizer, self.batch_size = loss, optimizer, batch_size
        self.l2 = check_number("l2", l2, low=0.0)
        self.dropout = check_each("dropout", dropout, self.network.n_layers - 1, check_fraction)
        self.clip_norm = None if clip_norm is None else check_number("clip_norm", clip_norm, low=0.0, open_low=True)
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
        self._thread: int | None = None  # that of a running fit
        self._pending: Pending | None = None  # what a loaded file holds for the next fit
        self._session = self._new_session()
        initialize(self.network, initializer, self.seed, self.parameters)
        self._tracked = (0,) * sum(bool(norm.row.statistics) for norm in self.network.norms)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _FIXED and name in self.__dict__:
            raise AttributeError(
                f"{name} cannot be changed after construction; make a new Trainer with initializer=trainer.parameters"
            )
        if name == "batch_size" and value is not None:
            value = check_integer("batch_size", value, low=1, high=MAX_SIZE)
        super().__setattr__(name, value)

    def _new_session(self) -> Session:
        """Lower the arguments to a plan, and choose what runs it."""
        names = ("loss", "optimizer", "l2", "shuffle", "seed", "precision", "dropout")
        options = {name: getattr(self, name) for name in names}
        clip_norm = math.inf if self.clip_norm is None else self.clip_norm
        plan = make_plan(self.network, batch_size=self.batch_size or 0, clip_norm=clip_norm, **options)
        return Session(plan, self.dtype, self._requested, self.threads)

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
        epochs : int, >= 0
            0 trains nothing, as for a run that was found complete.
        sample_weight : array_like, shape (n,), optional
        validation_data : (X, Y) or (X, Y, sample_weight), optional
            Evaluated after each epoch into ``val_loss``, and with ``metrics`` into ``val_accuracy`` …
        callbacks : iterable
            Objects with some of ``on_fit_begin(trainer)``, ``on_epoch_end(trainer, record)``, which returns True to
            stop, and ``on_fit_end(trainer, history)``: `EarlyStopping`, `Checkpoint`, and see `briskmlp.callbacks`.
            Each listed once.
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
            Bad input, or a batch of one row with batch normalisation; nothing has changed.
        FloatingPointError
            Training diverged; the weights are those from before the kernel call that did.
        OSError
            A `Checkpoint` cannot be written; the next ``fit`` goes on from there.
        KeyboardInterrupt
            On Ctrl-C, between two batches; the next ``fit`` goes on from there.
        RuntimeError
            Another ``fit`` of this Trainer is running.
        """
        epochs = check_integer("epochs", epochs, low=0)
        data = self._data(X, Y, sample_weight)
        check_batches(self.network, data.inputs.n, self.batch_size)
        validation = None if validation_data is None else self._data(*check_validation(validation_data), "validation ")
        metrics = check_metrics(metrics, labels=(data if validation is None else validation).Y.ndim == 1)
        prefix = "" if validation is None else "val_"
        names = ["epoch", "loss", "learning_rate", "time"] + ["val_loss"] * (validation is not None)
        hooks = Callbacks(callbacks, names=[*names, *(prefix + name for name in metrics)])
        history = History()
        with self._exclusive(), progress_callback(progress, epochs) as bar:
            hooks.add(bar)
            if self._pending is not None:
                self._pending.resume(self, hooks, (self.backend, self.isa))
            stopped = hooks.on_fit_begin(self)
            self._pending = None  # not before: if a callback fails, the next fit is the first

            def on_epochs(completed: Completed) -> bool:
                history.extend({**completed.columns(), **self._scores(data, validation, metrics)})
                return bool(hooks.callbacks) and hooks.on_epochs(self, history.last(len(completed.losses)))

            if not stopped:
                session, n, every = self._session, data.inputs.n, validation is not None or bool(metrics)
                session.begin(min(self.batch_size or n, n), data)
                until, rates = session.position.epoch + epochs, self.optimizer.rates
                stop = (lambda epoch: epoch + 1) if every else hooks.next_stop
                end = partial(hooks.on_kernel_call_end, self)
                try:
                    drive(session, until, rates, on_epochs, next_stop=stop, on_call_end=end)
                finally:
                    session.end()
            hooks.on_fit_end(self, history)
        return history

    def _scores(self, data: Data, validation: Data | None, metrics: tuple[str, ...]) -> dict[str, list[float]]:
        """Return the validation loss and the metrics as they are now, one value each."""
        scores = {} if validation is None else {"val_loss": [self._session.loss(validation)]}
        if metrics:
            prefix, scored = ("", data) if validation is None else ("val_", validation)
            A = self._session.predict(scored.inputs)
            scores |= {prefix + name: [METRICS[name](A, scored.Y, scored.weight)] for name in metrics}
        return scores

    def partial_fit(self, X: Any, Y: Any, sample_weight: Any = None) -> Trainer:
        """Train one epoch on these rows; returns self. Errors are those of ``fit``.

        Parameters
        ----------
        X, Y, sample_weight : array_like
            As in ``fit``.

        Returns
        -------
        Trainer
            Itself.
        """
        self.fit(X, Y, epochs=1, sample_weight=sample_weight, progress=False)
        return self

    def _undisturbed(self) -> AbstractContextManager[None]:
        """Hold off other threads' fits; a running one's callbacks hold them off already."""
        return nullcontext() if self._thread == threading.get_ident() else self._exclusive()

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        if self._process != os.getpid():  # a fork inherits a held lock, but not the thread that would release it
            self._process, self._busy = os.getpid(), threading.Lock()
            self._session.recover()
        if not self._busy.acquire(blocking=False):
            raise RuntimeError("another fit of this Trainer is running; a Trainer trains in one thread at a time")
        self._thread = threading.get_ident()
        try:
            yield
        finally:
            self._thread = None
            self._busy.release()

    @contextmanager
    def profile(self) -> Iterator[Profile]:
        """Record where training in a ``with`` block spends its time: see `briskmlp.profiling.Profile`.

        The numbers learned are the same, to the bit. A profile belongs to this Trainer alone.

        Raises
        ------
        RuntimeError
            This Trainer is being profiled already, or a ``fit`` of it is running in another thread.

        Examples
        --------
        >>> trainer = Trainer([3, 2], seed=0, backend="numpy")
        >>> with trainer.profile() as p:
        ...     history = trainer.fit([[1.0, 2.0, 3.0]] * 100, [[0.0, 1.0]] * 100, epochs=16)
        >>> p.steps, p.sampled  # print(p) shows a table, p.plot() a picture
        (64, 1)
        """
        with self._undisturbed():
            profile = Profile(self._session)
        try:
            yield profile
        finally:
            profile.close()

    # --- what it is --------------------------------------------------------------------------------------------------

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

    def save(
        self, path: str | PathLike[str], *, callbacks: Iterable[Any] = (), config: dict[str, Any] | None = None
    ) -> None:
        """Write a safetensors file from which training goes on with the same bits, in place of what is there.

        It holds weights, configuration, seed, optimizer state and position, inside an epoch too; what was at ``path``
        stays until all of it is on the disk. During a ``fit`` its callbacks may call this, and no other thread.

        Parameters
        ----------
        path : str or path-like
            Of a file. ``safetensors.torch.load_file`` reads it, and gives PyTorch the weights under its own names:
            ``module.load_state_dict({k: v for k, v in load_file(path).items() if k[0].isdigit()})``, except with
            ``bias="layer"``, whose one bias per layer PyTorch has not; ``to_torch`` repeats it.
        callbacks : iterable
            Those of ``fit`` whose states are kept, as the callback `Checkpoint` does.
        config : dict, optional
            JSON values to keep beside the trainer's own ``configuration``, in which `load` does not look for them.

        Raises
        ------
        TypeError
            The learning-rate schedule is the user's own, or a callback's state is of what cannot be kept.
        OSError
            The file cannot be written; an old one is still there.
        RuntimeError
            A ``fit`` is running in another thread, and the weights move.

        Examples
        --------
        >>> import os, tempfile
        >>> X, Y = [[0.0], [1.0], [2.0]], [0.0, 0.5, 1.0]
        >>> whole = Trainer([1, 3, 1], seed=1, batch_size=2, backend="numpy")
        >>> _ = whole.fit(X, Y, epochs=5)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "model.safetensors")
        ...     cut = Trainer([1, 3, 1], seed=1, batch_size=2, backend="numpy")
        ...     _ = cut.fit(X, Y, epochs=2)
        ...     cut.save(path)
        ...     resumed = Trainer.load(path, backend="numpy")
        >>> history = resumed.fit(X, Y, epochs=5 - resumed.epoch)
        >>> history["epoch"], resumed.parameters.tobytes() == whole.parameters.tobytes()
        ([3, 4, 5], True)
        """
        with self._undisturbed():
            described, state = {**self.configuration, **(config or {})}, self._session.training_state()
            slots, scalars = configuration.state_names(self.optimizer)
            named = dict(zip(slots, state.state.slots, strict=True))
            training = Training.of(state, self.backend, self.isa, scalars)
            kept = states_of(callbacks) or (self._pending.callbacks if self._pending else [])
            checkpoint.write(
                path,
                self.network,
                state.state.parameters,
                described,
                statistics=state.state.statistics,
                batches=self._batches,
                slots=named,
                training=training,
                callbacks=kept,
            )

    @classmethod
    def load(cls, path: str | PathLike[str], *, backend: str = "auto", threads: int | None = None) -> Trainer:
        """Return a Trainer that is where the one was that wrote this file; ``fit`` goes on from there.

        ``trainer.fit(…, epochs=n - trainer.epoch)`` with the arguments of the run that was cut ends with the bits
        that it would have ended with. Its callbacks go on as well: the k-th callback of a class that the first
        ``fit`` is given gets the state that the k-th one of this class had. That ``fit`` warns if a state is left
        over, and if backend or instruction set are not those that the file was trained on, as bits may then differ.
        The numpy backend needs the same BLAS and number of threads as well, and numba the same processor.

        Files of all older versions are read; what they do not hold starts afresh.

        Parameters
        ----------
        path : str or path-like
        backend : {"auto", "native", "numba", "numpy"}
        threads : int, optional
            As in the constructor; the machine's matter, and so in no file.

        Raises
        ------
        CheckpointError
            The file is not one of ours, is damaged, or comes from a newer version.
        """
        stored = checkpoint.read(path)
        network, file = stored.network, os.fspath(path)
        try:
            kept = configuration.restore(stored.config)
            options = {**network.arguments, **kept, "backend": backend, "threads": threads}
            trainer = cls(initializer=stored.parameters, dtype=stored.parameters.dtype, **options)
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"{file}: no Trainer can be made of it: {shortened(error)}") from error
        trainer._session.state.statistics[:] = stored.statistics
        if (training := stored.training) is None:  # a model alone
            trainer._batches = stored.batches
            return trainer
        try:
            state = stored.state(*configuration.state_names(trainer.optimizer))
        except CheckpointError as error:
            raise CheckpointError(f"{file}: {trainer.optimizer!r} {error}") from None
        trainer._session.restore(state)
        trainer._batches = stored.batches
        trained_on = (training.backend, training.isa) if training.step else None
        trainer._pending = Pending(file, stored.callbacks, trained_on)
        return trainer

    def __getstate__(self) -> dict[str, Any]:
        kept = {name: value for name, value in vars(self).items() if name != "_busy"}
        return kept | {"_session": self._session.training_state().to_dict()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _process=os.getpid(), _busy=threading.Lock(), _thread=None)
        before = self.__dict__.pop("_engine", None)  # as it was called before there were sessions
        self._session = self._new_session()
        self._session.restore(TrainingState.from_dict(before or state["_session"]))


def _check_dtype(dtype: Any) -> np.dtype[Any]:
    try:
        name = None if dtype is None else np.dtype(dtype).name  # NumPy reads None as float64
    except TypeError:
        name = dtype
    return np.dtype(check_choice("dtype", name, DTYPES))
