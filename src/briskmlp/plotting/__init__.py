"""Pictures of training and of what was learned (extra ``plot``), in the manner of scikit-learn's Displays.

``XDisplay.from_…(…)`` computes what is shown, draws it, and returns the display, which keeps the numbers and what was
drawn (``ax_``, ``figure_`` …); ``plot(ax=…)`` draws it again. All draw into ``ax`` if one is given, else into a new
figure. Matplotlib is imported when something is drawn.

Colours are Okabe and Ito's, whom the colour-blind can trust; what they tell can be told in grey as well: negative
weights are dashed, validation curves too.
"""

from briskmlp.plotting.confusion import plot_confusion_matrix
from briskmlp.plotting.descent import DescentDisplay
from briskmlp.plotting.diagram import NetworkDisplay
from briskmlp.plotting.images import WeightImagesDisplay
from briskmlp.plotting.losses import LossCurveDisplay

__all__ = ["DescentDisplay", "LossCurveDisplay", "NetworkDisplay", "WeightImagesDisplay", "plot_confusion_matrix"]
