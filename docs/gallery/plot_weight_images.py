"""
Weights as images
=================

Each neuron of the first layer has one weight per pixel. As an image, bright pixels excite the neuron and dark pixels
inhibit it. This network is trained on handwritten digits of 8 × 8 pixels. The ``l2`` penalty removes weights that the
digits do not need, such as those of pixels that are always empty, which would otherwise keep their initial values.
"""

from sklearn.datasets import load_digits

from briskmlp import Adam, Trainer
from briskmlp.plotting import WeightImagesDisplay

X, y = load_digits(return_X_y=True)
trainer = Trainer([64, 24, 10], hidden="tanh", loss="cross_entropy", optimizer=Adam(0.003), l2=1.0, seed=0)
trainer.fit(X / 16, y, epochs=60)
display = WeightImagesDisplay.from_trainer(trainer, shape=(8, 8), columns=6)
