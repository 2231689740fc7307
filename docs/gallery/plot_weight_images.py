"""
Weights as images
=================

Each neuron of the first layer has a weight for each pixel: an image of what excites it, bright, and of what inhibits
it, dark. This network has learned handwritten digits, 8 × 8 pixels each. Its penalty ``l2`` has taken away what digits
do not need, such as weights of pixels that are always empty, which else would stay at their first, random values.
"""

from sklearn.datasets import load_digits

from briskmlp import Adam, Trainer
from briskmlp.plotting import WeightImagesDisplay

X, y = load_digits(return_X_y=True)
trainer = Trainer([64, 24, 10], hidden="tanh", loss="cross_entropy", optimizer=Adam(0.003), l2=1.0, seed=0)
trainer.fit(X / 16, y, epochs=60)
display = WeightImagesDisplay.from_trainer(trainer, shape=(8, 8), columns=6)
