"""The Trainer: what users call, and the checks of what they pass. No mathematics is here, and no instruction set."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from os import PathLike
from typing import Any

import numpy as np

from briskmlp._messages import check_choice, check_fraction, check_integer, check_number, describe_bytes
from briskmlp.backends import dispatch
from briskmlp.backends.explaining import schedule_lines
from briskmlp.backends.threads import thread_limit
from briskmlp.callbacks import Callbacks
from briskmlp.data.inputs import check_inputs, check_targets, check_weight
from briskmlp.engine import Data, Engine
from briskmlp.history import History
from briskmlp.initializers import Initializer, check_initializer, initialize
from briskmlp.losses import check_loss, default_output, target_rules
from briskmlp.metrics import check_metrics
from briskmlp.network import MAX_SIZE, FloatArray, Network
from briskmlp.optimizers import OPTIMIZERS, SGD, Optimizer
from briskmlp.plan import PRECISIONS, make_plan
from briskmlp.profiling import Profile
from briskmlp.progress import progress_callback
from briskmlp.random import MAX_SEED, draw_seed
from briskmlp.storage import configuration, persistence
from briskmlp.training import run

DTYPES = ("float32", "float64")
# what the plan and the backend were made of
_FIXED = (
    "network", "loss", "optimizer", "l2", "dropout", "clip_norm", "dtype", "precision", "shuffle", "seed", "threads",
)  # fmt: skip


class Gradient:
    """The gradient of the loss, laid out as the parameters are; what ``Trainer.loss_and_gradient`` returns.

    Parameters
    ----------
    network : Network
    flat : ndarray, shape (n_parameters,)

    Attributes
    ----------
    flat : ndarray, shape (n_parameters,)
    weights : list of ndarray, (n_in, n_out) each
        ∂E/∂W, views of ``flat``.
    biases : list of ndarray, (n_out,) each; (1,) when shared by the layer, (0,) for none
        ∂E/∂b, views of ``flat``.

    Examples
    --------
    >>> gradient = Gradient(Network([2, 1]), np.array([1.0, 2.0, 3.0]))
    >>> gradient.weights, gradient.biases
    ([array([[1.],
           [2.]])], [array([3.])])
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
        Activation of the hidden layers, ``"sigmoid" "tanh" "relu" "leaky_relu" "identity"``: one name, or one per
        layer. leaky_relu is z above 0 and 0.01 z below.
    output : str, optional
        As ``hidden``, or ``"softmax"``, or ``"exp"``. Default: with cross_entropy, softmax for two or more output
        neurons and sigmoid for one; with poisson, exp; with the others, as the last hidden layer.
    loss : {"mse", "cross_entropy", "poisson", "absolute_error", "huber"}
        E = 1/n Σ_examples Σ_outputs of: ``(A - Y)²`` for mse; ``-Y log A`` for cross_entropy with softmax,
        ``-Y log A - (1-Y) log(1-A)`` with sigmoid; ``A - Y + Y log(Y/A)``, half the deviance, for poisson, whose Y are
        counts >= 0 and whose output is exp; ``|A - Y|`` for absolute_error; for huber ``(A - Y)²/2`` where
        ``|A - Y| <= 1``, and ``|A - Y| - 1/2`` beyond. PyTorch's MSELoss, L1Loss and HuberLoss also divide by n_out,
        and scikit-learn halves the mse: multiply the learning rate by 1/n_out or 1/2 to follow them.
    optimizer : SGD, Adam, AdamW or RMSprop
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
        dropout: float | Sequence[float] = 0.0,
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
        self.dropout = _check_dropout(dropout, self.network.n_layers - 1)
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
        self._pending: Any = None  # what a loaded file holds for the next fit
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
            dropout=self.dropout,
            clip_norm=math.inf if self.clip_norm is None else self.clip_norm,
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
            Bad input; nothing has changed.
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
        data = self._check_data(X, Y, sample_weight)
        validation = self._check_validation(validation_data)
        metrics = check_metrics(metrics, labels=(data if validation is None else validation).Y.ndim == 1)
        prefix = "" if validation is None else "val_"
        names = ["epoch", "loss", "learning_rate", "time"] + ["val_loss"] * (validation is not None)
        hooks = Callbacks(callbacks, names=[*names, *(prefix + name for name in metrics)])
        history = History()
        with self._exclusive(), progress_callback(progress, epochs) as bar:
            hooks.add(bar)
            if not persistence.begin(self, hooks):
                run(self, self._engine, data, epochs, validation, metrics, hooks, history)
            hooks.on_fit_end(self, history)
        return history

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
            self._engine.recover()
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
            profile = Profile(self._engine)
        try:
            yield profile
        finally:
            profile.close()

    # --- what a trained network says ---------------------------------------------------------------------------------

    def predict(self, X: Any, out: Any = None) -> FloatArray:
        """Return the last activations, shape (n, n_out), computed in bounded chunks.

        Parameters
        ----------
        X : array_like, as in ``fit``
        out : ndarray, shape (n, n_out), of the trainer's dtype, C order, optional
            Written to and returned.

        Returns
        -------
        ndarray, shape (n, n_out), of the trainer's dtype
            Probabilities after softmax; otherwise what the output's activation gives.

        Raises
        ------
        ValueError, TypeError
            X or out is not as said.
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

        Parameters
        ----------
        X, Y, sample_weight : array_like
            As in ``fit``, with its errors.

        Returns
        -------
        float
            In the units of the loss: for mse those of Y², for cross_entropy nats.
        """
        return self._engine.loss(self._check_data(X, Y, sample_weight))

    def loss_and_gradient(self, X: Any, Y: Any, sample_weight: Any = None) -> tuple[float, Gradient]:
        """Return what backpropagation computes for these rows as one batch: the loss, l2 included, and its gradient.

        Parameters
        ----------
        X, Y, sample_weight : array_like
            As in ``fit``, with its errors.

        Returns
        -------
        loss : float
        gradient : Gradient
            Of new arrays at each call.

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
        """Instruction set of the native backend, None on the others.

        Such as ``"avx512"``; ``"avx512_bf16"``, which multiplies bfloat16 alone, where another precision than
        ``"highest"`` was asked for and the processor has it; ``"amx"`` where ``BRISKMLP_ISA`` asked for it.
        """
        return self._engine.choice.isa

    def explain(self, *, schedule: bool = False) -> str:
        """Return why this backend was chosen and the others were not, the threads, and the memory needed.

        Parameters
        ----------
        schedule : bool
            Also how the threads share a training step, on the native backend: for each layer, whether they divide the
            panels (columns) or rows of the forward product and of dX, and the panels of the outputs or of the inputs
            of dW; and where they wait for each other.

        Returns
        -------
        str

        Examples
        --------
        >>> text = Trainer([784, 256, 10], batch_size=64, backend="numpy").explain(schedule=True)
        >>> print(text.splitlines()[-1])
        schedule: numpy decides it in each call, and shows none
        """
        engine = self._engine
        lines = [f"backend: {self.backend}" + (f" with {self.isa}" if self.isa else "")]
        reasons = dispatch.reasons(engine.choice, engine.plan, self.dtype)
        lines += [f"  {name}: {reason}" for name, reason in reasons.items()]
        arithmetic = dispatch.arithmetic(engine.choice, engine.plan)
        lines += [] if arithmetic is None else [f"precision: {arithmetic}"]
        lines.append(f"threads: at most {thread_limit(self.threads)}")
        lines.append(self.network.summary(self.dtype.name).splitlines()[-1])
        lines.append(f"memory: about {describe_bytes(engine.memory())} while training, beside the data")
        if schedule:
            lines += schedule_lines(engine.choice, engine.plan, self.dtype, thread_limit(self.threads))
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

    def save(self, path: str | PathLike[str], *, callbacks: Iterable[Any] = ()) -> None:
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
            persistence.save(self, path, callbacks)

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
        return persistence.load(cls, path, backend=backend, threads=threads)

    def __getstate__(self) -> dict[str, Any]:
        state = {name: value for name, value in self.__dict__.items() if name != "_busy"}
        return state | {"_engine": self._engine.learned()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _process=os.getpid(), _busy=threading.Lock(), _thread=None)
        self._engine = self._make_engine()
        self._engine.take_over(state["_engine"])

    # --- in other formats ---------------------------------------------------------------------------------------------

    @classmethod
    def from_torch(cls, module: Any, **arguments: Any) -> Trainer:
        """Return a Trainer of the network that a PyTorch module is, with a copy of its numbers and dropout rates.

        Parameters
        ----------
        module : torch.nn.Module
            See `briskmlp.convert.torch.from_torch`; what is not supported is refused by name.
        **arguments
            Of the constructor, other than layers, hidden, bias and initializer. ``loss="cross_entropy"`` adds softmax
            or sigmoid to a module that ends in a Linear, as PyTorch's losses of logits do.
        """
        from briskmlp.convert.torch import from_torch

        network, parameters, dropout = from_torch(module)
        logits = network.output == "identity" and arguments.get("loss") == "cross_entropy"
        output = None if logits else network.output
        arguments = {"output": output, "dtype": parameters.dtype, "dropout": dropout or 0.0, **arguments}
        return cls(network.layers, hidden=network.hidden, bias=network.bias, initializer=parameters, **arguments)

    def to_torch(self) -> Any:
        """Return a torch.nn.Sequential with a copy of the parameters; see `briskmlp.convert.torch.to_torch`."""
        from briskmlp.convert.torch import to_torch

        return to_torch(self.network, self.parameters, self.dropout)

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of the parameters as tensors: ``"{2l}.weight"`` (n_out, n_in) and ``"{2l}.bias"`` (n_out,)."""
        from briskmlp.convert.torch import state_dict

        return state_dict(self.network, self.parameters)

    def load_state_dict(self, state: Any) -> None:
        """Take over the parameters of a state dict, as ``state_dict`` returns it; nothing else changes.

        Parameters
        ----------
        state : mapping of str to Tensor

        Raises
        ------
        ValueError
            A name, shape or number does not fit; nothing has changed.
        """
        from briskmlp.convert.torch import load_state_dict

        load_state_dict(self.network, self.parameters, state)

    def to_onnx(self, path: str | PathLike[str], *, classes: Sequence[Any] | None = None) -> None:
        """Write an ONNX file of the network, with the names of its classes; see `briskmlp.convert.onnx.to_onnx`.

        Parameters
        ----------
        path : str or path-like
        classes : sequence of int or of str, optional
            The names of its outputs, or of 0 and 1 where it has one output; default: 0, 1, …
        """
        from briskmlp.convert.onnx import to_onnx

        to_onnx(self, path, classes=classes)

    # --- checks ------------------------------------------------------------------------------------------------------

    def _check_data(self, X: Any, Y: Any, sample_weight: Any = None, *, prefix: str = "") -> Data:
        n_labels, domain = target_rules(self.loss, self.network)
        inputs = check_inputs(X, self.network.n_in, self.dtype, name=f"{prefix}X")
        targets = check_targets(Y, inputs.n, self.network.n_out, n_labels, self.dtype, name=f"{prefix}Y", domain=domain)
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


def _check_dropout(dropout: Any, n_hidden: int) -> tuple[float, ...]:
    """Return a rate for each hidden layer."""
    if isinstance(dropout, (str, bytes)) or not isinstance(dropout, (Sequence, np.ndarray)) or np.ndim(dropout) == 0:
        return (check_fraction("dropout", dropout),) * n_hidden
    if len(dropout) != n_hidden:
        raise ValueError(f"dropout has {len(dropout)} rates, but layers has {n_hidden} hidden layers")
    return tuple(check_fraction(f"dropout[{layer}]", rate) for layer, rate in enumerate(dropout))
