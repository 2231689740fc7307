"""
The path of gradient descent
============================
"""

import numpy as np

from briskmlp import SGD, Trainer
from briskmlp.plotting import DescentDisplay

X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
Y = X[:, 0] ^ X[:, 1]
trainer = Trainer([2, 2, 1], hidden="tanh", output="sigmoid", optimizer=SGD(1.0), batch_size=None, seed=3)
trainer.fit(X, Y, epochs=3000)
print(trainer.evaluate(X, Y), trainer.weights)
DescentDisplay.from_trainer(
    trainer, X, Y, weights=((0, 0, 0), (0, 1, 0)), epochs=60, start=(-3, -1.0)
)
