"""WeightImagesDisplay: the weights of the first layer's neurons as images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from briskmlp._messages import check_integer, check_number
from briskmlp.network import FloatArray
from briskmlp.plotting._figures import axes
from briskmlp.plotting._models import check_finite, check_trainer, fitted_attribute

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colorbar import Colorbar
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

GAP = 1  # pixels between two images


class WeightImagesDisplay:
    """The weights into each neuron of the first layer as an image, all on one scale, side by side.

    Make it with `from_trainer` or `from_estimator`.

    Parameters
    ----------
    images : ndarray, shape (n_neurons, height, width)

    Attributes
    ----------
    images : ndarray, shape (n_neurons, height, width)
    image_ : AxesImage
        The images of all neurons drawn, row by row, with masked gaps of 1 pixel between them.
    colorbar_ : Colorbar or None
    ax_ : Axes
    figure_ : Figure

    Examples
    --------
    >>> from briskmlp import Trainer
    >>> trainer = Trainer([6, 4, 1], seed=0, backend="numpy")
    >>> display = WeightImagesDisplay.from_trainer(trainer, shape=(2, 3))
    >>> display.images.shape, display.image_.get_array().shape
    ((4, 2, 3), (5, 7))
    """

    image_: AxesImage
    colorbar_: Colorbar | None
    ax_: Axes
    figure_: Figure

    def __init__(self, images: FloatArray) -> None:
        self.images = np.asarray(images)
        if self.images.ndim != 3 or 0 in self.images.shape:
            raise ValueError(f"images has shape {self.images.shape}, but must have (n_neurons, height, width)")
        check_finite("images", self.images)

    @classmethod
    def from_trainer(
        cls, trainer: Any, shape: Sequence[int], *, ax: Axes | None = None, **kwargs: Any
    ) -> WeightImagesDisplay:
        """Plot the current ``trainer.weights[0]``.

        Parameters
        ----------
        trainer : Trainer
        shape : (int, int)
            Height and width of the images in X; their product is the number of inputs.
        ax : Axes, optional
        **kwargs
            Passed to `plot`.

        Raises
        ------
        TypeError, ValueError
            ``trainer`` is not a Trainer, or ``shape`` does not match its number of inputs.
        """
        return cls(_as_images(check_trainer(trainer).weights[0], shape)).plot(ax, **kwargs)

    @classmethod
    def from_estimator(
        cls, estimator: Any, shape: Sequence[int], *, ax: Axes | None = None, **kwargs: Any
    ) -> WeightImagesDisplay:
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
    ) -> WeightImagesDisplay:
        """Plot the images.

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

        Returns
        -------
        WeightImagesDisplay
            Itself.
        """
        images = self.images[: check_integer("max_images", max_images, low=1)]
        n, height, width = images.shape
        default = math.ceil(math.sqrt(n * (height + GAP) / (width + GAP)))
        columns = min(n, check_integer("columns", default if columns is None else columns, low=1))
        mosaic = _mosaic(images, columns)
        size = 6.0 / max(mosaic.shape)  # inches per pixel
        self.ax_ = ax = axes(ax, (mosaic.shape[1] * size + 1.0 * colorbar, mosaic.shape[0] * size + 0.4))
        self.figure_ = ax.figure  # type: ignore[assignment] # or a SubFigure
        if vmax is None:
            vmax = float(np.abs(images).max()) or 1.0
        largest = check_number("vmax", vmax, low=0.0, open_low=True)
        self.image_ = ax.imshow(mosaic, cmap=cmap, vmin=-largest, vmax=largest, interpolation="nearest")
        ax.set_axis_off()
        shown = f"{n} of {len(self.images)}" if n < len(self.images) else f"{n}"
        ax.set_title(f"weights into {shown} neuron{'s' * (len(self.images) > 1)} of the first layer", fontsize="medium")
        self.colorbar_ = None
        if colorbar:
            extend = "both" if np.abs(images).max() > largest else "neither"
            self.colorbar_ = self.figure_.colorbar(self.image_, ax=ax, label="weight", extend=extend, shrink=0.8)
        return self


def _as_images(W: FloatArray, shape: Sequence[int]) -> FloatArray:
    """Return a copy of weights (n_in, n_out) as (n_out, height, width)."""
    if np.shape(shape) != (2,):
        raise ValueError(f"shape is {shape!r}, but must be (height, width)")
    height, width = (check_integer(f"shape[{axis}]", size, low=1) for axis, size in enumerate(shape))
    if height * width != len(W):
        raise ValueError(
            f"shape is ({height}, {width}), which has {height * width} pixels, but the network's input has {len(W)}"
        )
    return np.array(W.T).reshape(-1, height, width)


def _mosaic(images: FloatArray, columns: int) -> Any:
    """Return a masked array with the images row by row, with gaps between them."""
    n, height, width = images.shape
    rows = -(-n // columns)
    tiles = np.full((rows * columns, height + GAP, width + GAP), np.nan, dtype=images.dtype)
    tiles[:n, :height, :width] = images
    tiles = tiles.reshape(rows, columns, height + GAP, width + GAP).swapaxes(1, 2)
    whole = tiles.reshape(rows * (height + GAP), columns * (width + GAP))
    return np.ma.masked_invalid(whole[:-GAP, :-GAP])
