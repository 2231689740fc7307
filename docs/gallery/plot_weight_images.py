"""
Weights as images
=================

Each neuron of the first layer has a weight for each pixel: an image of what excites it, bright, and of what inhibits
it, dark. These are of a network that has learned handwritten digits, 8 × 8 pixels each. Without the penalty ``l2``,
corners that are empty in all digits would show the random numbers that training began with.
"""

from sklearn.datasets import load_digits

from briskmlp import Adam, Trainer
from briskmlp.plotting import WeightImagesDisplay

X, y = load_digits(return_X_y=True)
trainer = Trainer([64, 36, 10], loss="cross_entropy", optimizer=Adam(0.003), l2=0.1, seed=0)
trainer.fit(X / 16, y, epochs=60)
WeightImagesDisplay.from_trainer(trainer, shape=(8, 8))
