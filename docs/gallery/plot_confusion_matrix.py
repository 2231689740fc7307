"""
The confusion matrix
====================

Which digits are taken for which? Rows are what was written, columns what the network reads; the digits were written by
people whom it has not been trained on. scikit-learn draws it, and returns its own ``ConfusionMatrixDisplay``.
"""

from sklearn.datasets import load_digits

from briskmlp import Adam, Trainer
from briskmlp.plotting import plot_confusion_matrix

X, y = load_digits(return_X_y=True)
trainer = Trainer([64, 50, 10], hidden="relu", loss="cross_entropy", optimizer=Adam(0.003), seed=0)
trainer.fit(X[:1300] / 16, y[:1300], epochs=30)
display = plot_confusion_matrix(trainer, X[1300:] / 16, y[1300:], cmap="Blues", colorbar=False)
_ = display.ax_.set_title("497 digits of other writers")
