"""
The network of the worked example
=================================

Two inputs, two hidden neurons, two outputs and one bias per layer, with the weights used in textbooks.
:doc:`/backpropagation` works through this example with every number.
"""

import numpy as np

from briskmlp import Trainer
from briskmlp.plotting import NetworkDisplay

W1, b1 = np.array([[0.15, 0.25], [0.20, 0.30]]), np.array([0.35])
W2, b2 = np.array([[0.40, 0.50], [0.45, 0.55]]), np.array([0.60])
trainer = Trainer([2, 2, 2], bias="layer", initializer=[(W1, b1), (W2, b2)])
NetworkDisplay.from_trainer(trainer, input_labels=["0.05", "0.10"], output_labels=["0.01", "0.99"])
