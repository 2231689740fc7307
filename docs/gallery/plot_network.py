"""
The network diagram
===================

Two networks as textbooks draw them. Blue lines are positive weights, dashed orange ones negative; the width of a line
is proportional to the weight. What a neuron is called is what ``trainer.network.to_mermaid()`` calls it as well.
"""

import numpy as np

from briskmlp import SGD, Trainer
from briskmlp.plotting import NetworkDisplay

# %%
# Exclusive or, with the one bias per layer of three-layer textbook networks, which they draw as B1 and B2. After
# training one can read what it has learned off the diagram.

X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
Y = X[:, 0] ^ X[:, 1]
trainer = Trainer([2, 3, 1], bias="layer", hidden="tanh", output="sigmoid", optimizer=SGD(2.0), batch_size=None, seed=3)
trainer.fit(X, Y, epochs=3000)
display = NetworkDisplay.from_trainer(trainer, output_labels=["a xor b"], input_labels=["a", "b"])

# %%
# Handwritten digits need 64 inputs and 30 hidden neurons: an ellipsis stands for those that are not drawn. A neuron's
# shade is its bias.

from sklearn.datasets import load_breast_cancer  # noqa: E402 - where it is needed
from sklearn.preprocessing import scale  # noqa: E402

cancer = load_breast_cancer()
trainer = Trainer([30, 8, 1], hidden="tanh", loss="cross_entropy", optimizer=SGD(0.2), seed=0)
trainer.fit(scale(cancer.data), cancer.target, epochs=60)
NetworkDisplay.from_trainer(trainer, input_labels=cancer.feature_names, output_labels=["benign"])
