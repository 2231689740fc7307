"""
A profile of training
=====================

Where the time of a large batch goes, and how close each phase comes to the limits of the machine: the roofline on the
left, the time of each layer's phases on the right. The page was built on the machine that is measured here.
"""

import numpy as np
from sklearn.datasets import load_digits

from briskmlp import Trainer

X, y = load_digits(return_X_y=True)
X, y = np.tile(X / 16, (4, 1)).astype(np.float32), np.tile(y, 4)

trainer = Trainer([64, 1024, 1024, 10], hidden="relu", loss="cross_entropy", batch_size=2048, seed=0)
trainer.fit(X, y, epochs=1)
with trainer.profile() as p:
    trainer.fit(X, y, epochs=5)
print(p)
figure = p.plot()
