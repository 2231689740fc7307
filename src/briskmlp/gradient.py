"""The gradient of a loss, with views of its parts."""

from __future__ import annotations

from briskmlp.network import FloatArray, Network


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
    >>> import numpy as np
    >>> gradient = Gradient(Network([2, 1]), np.array([1.0, 2.0, 3.0]))
    >>> gradient.weights, gradient.biases
    ([array([[1.],
           [2.]])], [array([3.])])
    """

    def __init__(self, network: Network, flat: FloatArray) -> None:
        self.flat = flat
        self.weights = network.weights(flat)
        self.biases = network.biases(flat)
