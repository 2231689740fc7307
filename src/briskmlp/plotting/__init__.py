"""Plots of training and of trained networks (extra ``plot``), in the style of scikit-learn's Displays.

``XDisplay.from_…(…)`` computes the data, plots them, and returns the display, which stores the data and the Matplotlib
objects (``ax_``, ``figure_`` …); ``plot(ax=…)`` plots it again. All plot on ``ax`` if it is given, and otherwise in a
new figure. Matplotlib is imported on first use.

The colours are Okabe and Ito's, which are safe for colour-blind readers. The plots can also be read in greyscale:
negative weights and validation curves are dashed.
"""

from briskmlp.plotting.confusion import plot_confusion_matrix
from briskmlp.plotting.descent import DescentDisplay
from briskmlp.plotting.diagram import NetworkDisplay
from briskmlp.plotting.images import WeightImagesDisplay
from briskmlp.plotting.losses import LossCurveDisplay

__all__ = ["DescentDisplay", "LossCurveDisplay", "NetworkDisplay", "WeightImagesDisplay", "plot_confusion_matrix"]
