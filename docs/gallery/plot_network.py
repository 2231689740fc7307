"""
The network diagram
===================

Two networks, drawn as in textbooks. Blue lines are positive weights, dashed orange lines negative ones. The width of a
line is proportional to the weight, with a separate scale for each layer. ``trainer.network.to_mermaid()`` uses the same
names for the neurons.
"""

# %%
# Exclusive or, with one bias per layer, which textbooks draw as nodes B1, B2, …

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
# Is a tumour benign? The ellipsis stands for those of the 30 measurements that are not drawn. With one bias per neuron,
# the bias is the shade of the neuron, and a dashed outline means that it is negative.

cancer = load_breast_cancer()
trainer = Trainer([30, 6, 1], hidden="tanh", loss="cross_entropy", optimizer=SGD(0.1), l2=0.1, seed=0)
trainer.fit(scale(cancer.data), cancer.target, epochs=100)
display = NetworkDisplay.from_trainer(trainer, input_labels=cancer.feature_names, output_labels=["benign"])
