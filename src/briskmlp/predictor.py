"""What a network says of data, and what it is: all of a Trainer that trains nothing."""

from __future__ import annotations

from typing import Any

import numpy as np

from briskmlp._messages import describe_bytes
from briskmlp.backends import dispatch
from briskmlp.backends.threads import thread_limit
from briskmlp.conversions import Conversions
from briskmlp.data.examples import Data, check_batches, check_data
from briskmlp.data.inputs import check_inputs
from briskmlp.network import FloatArray, Gradient, Statistics


class Predictor(Conversions):
    """The members of `Trainer` that read its network, loss and session, and change nothing."""

    loss: str
    dtype: np.dtype[Any]
    threads: int | None

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
        return self._session.predict(inputs, out)

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
        return self._session.loss(self._data(X, Y, sample_weight))

    def loss_and_gradient(self, X: Any, Y: Any, sample_weight: Any = None) -> tuple[float, Gradient]:
        """Return what backpropagation computes for these rows as one batch: the loss, l2 included, and its gradient.

        Batch normalisation is by these rows' own mean and variance, and moves no running ones.

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
        >>> from briskmlp import Trainer
        >>> trainer = Trainer([1, 1], hidden="identity", initializer=[([[2.0]], [0.0])], output="identity")
        >>> E, gradient = trainer.loss_and_gradient([3.0], [5.0])
        >>> E, gradient.weights[0]
        (1.0, array([[6.]], dtype=float32))
        """
        data = self._data(X, Y, sample_weight)
        check_batches(self.network, data.inputs.n, None)
        E, flat = self._session.gradient(data)
        return E, Gradient(self.network, flat)

    def _data(self, X: Any, Y: Any, sample_weight: Any, prefix: str = "") -> Data:
        return check_data((self.network, self.loss, self.dtype), X, Y, sample_weight, prefix)

    # --- what it is --------------------------------------------------------------------------------------------------

    @property
    def weights(self) -> list[FloatArray]:
        """Writable views (n_in, n_out) of each layer's weights; ``weights[0]`` is the mathematics' W[1]."""
        return self.network.weights(self.parameters)

    @property
    def biases(self) -> list[FloatArray]:
        """Writable views of each layer's biases: (n_out,); (1,) when shared by the layer, (0,) for none."""
        return self.network.biases(self.parameters)

    @property
    def gammas(self) -> list[FloatArray]:
        """Writable views (n,) of the factors of each normalisation, from the input to the output."""
        return self.network.gammas(self.parameters)

    @property
    def betas(self) -> list[FloatArray]:
        """Writable views (n,) of what each normalisation adds."""
        return self.network.betas(self.parameters)

    @property
    def statistics(self) -> list[Statistics]:
        """Writable views of the running mean and variance of each batch normalisation, from the input to the output.

        Examples
        --------
        >>> from briskmlp import Trainer
        >>> trainer = Trainer([1, 2, 1], norm="batch", batch_size=4, seed=0)
        >>> _ = trainer.fit([0, 1, 2, 3], [0, 1, 4, 9], epochs=1)
        >>> trainer.statistics[0].variance.shape
        (2,)
        """
        return self.network.split_statistics(self._session.state.statistics)

    @property
    def epoch(self) -> int:
        """Epochs completed."""
        return self._session.position.epoch

    @property
    def step(self) -> int:
        """Steps made."""
        return self._session.position.step

    @property
    def backend(self) -> str:
        """Name of the backend that was chosen."""
        return self._session.choice.backend.NAME

    @property
    def isa(self) -> str | None:
        """Instruction set of the native backend, None on the others.

        Such as ``"avx512"``; ``"avx512_bf16"``, which multiplies bfloat16 alone, where another precision than
        ``"highest"`` was asked for and the processor has it; ``"amx"`` where ``BRISKMLP_ISA`` asked for it.
        """
        return self._session.choice.isa

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
        >>> from briskmlp import Trainer
        >>> text = Trainer([784, 256, 10], batch_size=64, backend="numpy").explain(schedule=True)
        >>> print(text.splitlines()[-1])
        schedule: numpy decides it in each call, and shows none
        """
        session = self._session
        lines = [f"backend: {self.backend}" + (f" with {self.isa}" if self.isa else "")]
        reasons = dispatch.reasons(session.choice, session.plan, self.dtype)
        lines += [f"  {name}: {reason}" for name, reason in reasons.items()]
        arithmetic = dispatch.arithmetic(session.choice, session.plan)
        lines += [] if arithmetic is None else [f"precision: {arithmetic}"]
        lines.append(f"threads: at most {thread_limit(self.threads)}")
        lines.append(self.network.summary(self.dtype.name).splitlines()[-1])
        lines.append(f"memory: about {describe_bytes(session.memory())} while training, beside the data")
        if schedule:
            lines += dispatch.schedule(session.choice, session.plan, self.dtype, thread_limit(self.threads))
        return "\n".join(lines)
