"""WeightImagesDisplay: the weights of the first layer's neurons as images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from briskmlp._messages import check_integer, check_number
from briskmlp.network import FloatArray
from briskmlp.plotting._figures import Display, check_finite, check_trainer, fitted_attribute

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GAP = 1  # pixels between two images


class WeightImagesDisplay(Display):
    """The weights into each neuron of the first layer as an image, all on one scale, side by side.

    Make it with `from_trainer` or `from_estimator`.

    Parameters
    ----------
    images : ndarray, shape (n_neurons, height, width)

    Attributes
    ----------
    images
        As given.
    image_ : AxesImage
        The images of all neurons drawn, row by row, with masked gaps of 1 pixel between them.
    colorbar_ : Colorbar or None
    ax_, figure_ : Axes, Figure

    Examples
    --------
    >>> from briskmlp import Trainer
    >>> trainer = Trainer([6, 4, 1], seed=0, backend="numpy")
    >>> display = WeightImagesDisplay.from_trainer(trainer, shape=(2, 3))
    >>> display.images.shape, display.image_.get_array().shape
    ((4, 2, 3), (5, 7))
    """

    def __init__(self, images: FloatArray) -> None:
        self.images = np.asarray(images)
        if self.images.ndim != 3 or 0 in self.images.shape:
            raise ValueError(f"images has shape {self.images.shape}, but must have (n_neurons, height, width)")
        check_finite("images", self.images)

    @classmethod
    def from_trainer(cls, trainer: Any, shape: Sequence[int], *, ax: Axes | None = None, **kwargs: Any) -> Self:
        """Plot the current ``trainer.weights[0]``.

        Parameters
        ----------
        trainer : Trainer
        shape : (int, int)
            Height and width of the images in X; their product is the number of inputs.
        ax, kwargs
            Passed to `plot`.

        Raises
        ------
        TypeError, ValueError
            ``trainer`` is not a Trainer, or ``shape`` does not match its number of inputs.
        """
        return cls(_as_images(check_trainer(trainer).weights[0], shape)).plot(ax, **kwargs)

    @classmethod
    def from_estimator(cls, estimator: Any, shape: Sequence[int], *, ax: Axes | None = None, **kwargs: Any) -> Self:
        """Plot ``coefs_[0]`` of a fitted MLPClassifier or MLPRegressor, this library's or scikit-learn's.

        Parameters and errors are those of `from_trainer`; an estimator that is not fitted also raises an error.
        """
        return cls(_as_images(fitted_attribute(estimator, "coefs_")[0], shape)).plot(ax, **kwargs)

    def plot(
        self,
        ax: Axes | None = None,
        *,
        max_images: int = 100,
        columns: int | None = None,
        cmap: Any = "gray",
        vmax: float | None = None,
        colorbar: bool = True,
    ) -> Self:
        """Plot the images; return the display.

        Parameters
        ----------
        ax : Axes, optional
        max_images : int
            Largest number of neurons; the first ones are drawn.
        columns : int, optional
            Number of images per row. Default: makes the plot about square.
        cmap : str or Colormap
            In the default, weights that excite the neuron are bright and weights that inhibit it are dark.
        vmax : float, optional
            The colours range from -vmax to vmax. Default: the largest ``|w|``.
        colorbar : bool
        """
        images = self.images[: check_integer("max_images", max_images, low=1)]
        n, height, width = images.shape
        default = math.ceil(math.sqrt(n * (height + GAP) / (width + GAP)))
        columns = min(n, check_integer("columns", default if columns is None else columns, low=1))
        mosaic = _mosaic(images, columns)
        size = 6.0 / max(mosaic.shape)  # inches per pixel
        ax = self._new_axes(ax, (mosaic.shape[1] * size + 1.0 * colorbar, mosaic.shape[0] * size + 0.4))
        vmax = float(np.abs(images).max()) or 1.0 if vmax is None else vmax
        largest = check_number("vmax", vmax, low=0.0, open_low=True)
        self.image_ = ax.imshow(mosaic, cmap=cmap, vmin=-largest, vmax=largest, interpolation="nearest")
        ax.set_axis_off()
        shown = f"{n} of {len(self.images)}" if n < len(self.images) else f"{n}"
        ax.set_title(f"weights into {shown} neuron{'s' * (len(self.images) > 1)} of the first layer", fontsize="medium")
        extend = "both" if np.abs(images).max() > largest else "neither"
        self.colorbar_ = (
            self.figure_.colorbar(self.image_, ax=ax, label="weight", extend=extend, shrink=0.8) if colorbar else None
        )
        return self


def _as_images(W: FloatArray, shape: Sequence[int]) -> FloatArray:
    """Return a copy of weights (n_in, n_out) as (n_out, height, width)."""
    if np.shape(shape) != (2,):
        raise ValueError(f"shape is {shape!r}, but must be (height, width)")
    height, width = (check_integer(f"shape[{axis}]", size, low=1) for axis, size in enumerate(shape))
    if height * width != len(W):
        came = f"({height}, {width}), which has {height * width} pixels"
        raise ValueError(f"shape is {came}, but the network's input has {len(W)}")
    return np.array(W.T).reshape(-1, height, width)


def _mosaic(images: FloatArray, columns: int) -> Any:
    """Return a masked array with the images row by row, with gaps between them."""
    n, height, width = images.shape
    rows = -(-n // columns)
    tiles = np.pad(images, ((0, rows * columns - n), (0, GAP), (0, GAP)), constant_values=np.nan)
    tiles = tiles.reshape(rows, columns, height + GAP, width + GAP).swapaxes(1, 2)
    return np.ma.masked_invalid(tiles.reshape(rows * (height + GAP), columns * (width + GAP))[:-GAP, :-GAP])
