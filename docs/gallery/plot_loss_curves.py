"""
Loss and validation curves
==========================

Several histories can be plotted on the same axes. Here, three optimizers train on handwritten digits. Solid lines are
the training loss, dashed lines the loss on digits by other writers. The network overfits: after about ten epochs, the
validation loss no longer improves.
"""

from sklearn.datasets import load_digits

from briskmlp import SGD, Adam, Trainer
from briskmlp.plotting import LossCurveDisplay

X, y = load_digits(return_X_y=True)
X, y, held_out = X[:1300] / 16, y[:1300], (X[1300:] / 16, y[1300:])

optimizers = {
    "SGD": SGD(0.1),
    "Adam": Adam(0.003),
    "SGD with momentum": SGD(0.1, momentum=0.9),
}
ax = None
for name, optimizer in optimizers.items():
    trainer = Trainer([64, 50, 10], hidden="relu", loss="cross_entropy", optimizer=optimizer, seed=0)
    history = trainer.fit(X, y, epochs=40, validation_data=held_out)
    ax = LossCurveDisplay.from_history(history, ax=ax, label=name).ax_
_ = ax.set(ylim=(0, 0.8), ylabel="cross-entropy", title="Handwritten digits, 64-50-10 neurons")
