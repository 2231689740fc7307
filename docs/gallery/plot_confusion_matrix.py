"""
The confusion matrix
====================

Which digits does the network confuse? Rows are the true digits, columns the predicted ones. The digits were written by
people who are not in the training data. The plot is scikit-learn's ``ConfusionMatrixDisplay``.
"""

from sklearn.datasets import load_digits

from briskmlp import Adam, Trainer
from briskmlp.plotting import plot_confusion_matrix

X, y = load_digits(return_X_y=True)
trainer = Trainer([64, 50, 10], hidden="relu", loss="cross_entropy", optimizer=Adam(0.003), seed=0)
trainer.fit(X[:1300] / 16, y[:1300], epochs=30)
display = plot_confusion_matrix(trainer, X[1300:] / 16, y[1300:], cmap="Blues", colorbar=False)
_ = display.ax_.set_title("497 digits by other writers")
