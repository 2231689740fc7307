"""
The network diagram
===================

Two networks as textbooks draw them. Blue lines are positive weights, dashed orange ones negative; the width of a line
is proportional to the weight, in each layer's own scale. ``trainer.network.to_mermaid()`` gives the neurons the same
names.
"""

# %%
# Exclusive or, learned by a network with one bias per layer, which textbooks draw as a node B1, B2, …

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import scale

from briskmlp import SGD, Trainer
from briskmlp.plotting import NetworkDisplay

X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
Y = X[:, 0] ^ X[:, 1]
trainer = Trainer([2, 3, 1], bias="layer", hidden="tanh", output="sigmoid", optimizer=SGD(2.0), batch_size=None, seed=3)
trainer.fit(X, Y, epochs=3000)
display = NetworkDisplay.from_trainer(trainer, input_labels=["a", "b"], output_labels=["a xor b"])

# %%
# Is a tumour benign? Of the 30 measurements the ellipsis stands for those that are not drawn. With one bias per neuron,
# the neuron's shade shows it; its outline is dashed where the bias is negative.

cancer = load_breast_cancer()
trainer = Trainer([30, 6, 1], hidden="tanh", loss="cross_entropy", optimizer=SGD(0.1), l2=0.1, seed=0)
trainer.fit(scale(cancer.data), cancer.target, epochs=100)
display = NetworkDisplay.from_trainer(trainer, input_labels=cancer.feature_names, output_labels=["benign"])
