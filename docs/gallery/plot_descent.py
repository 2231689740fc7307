"""
The path of gradient descent
============================

If all weights but two are fixed, the loss is a surface over these two, and training descends on it. Each step of plain
gradient descent is perpendicular to the contour it starts from.
"""

# %%
# Exclusive or. The network has been trained. Two of its weights are reset to 0 and trained again: they leave a hill,
# follow a slope, and descend into the plain.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.preprocessing import scale

from briskmlp import SGD, Trainer
from briskmlp.plotting import DescentDisplay

X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
Y = X[:, 0] ^ X[:, 1]
trainer = Trainer([2, 2, 1], hidden="tanh", loss="cross_entropy", optimizer=SGD(0.5), batch_size=None, seed=3)
trainer.fit(X, Y, epochs=800)
two = ((0, 0, 0), (0, 1, 1))  # trainer.weights[0][0, 0] and trainer.weights[0][1, 1]
display = DescentDisplay.from_trainer(
    trainer, X, Y, weights=two, start=(0, 0), epochs=60, limits=((-1, 4), (-4, 1)), n_points=81
)
_ = display.ax_.set(aspect="equal", title="Exclusive or, 2-2-1 neurons")

# %%
# A valley. Two of the blood values in the diabetes data are strongly correlated, so many pairs of weights fit almost
# equally well. Plain gradient descent oscillates across the valley and makes little progress along it. With momentum,
# the same number of steps reaches the minimum.

diabetes = load_diabetes()
columns = [diabetes.feature_names.index(name) for name in ("s1", "s2")]
X, Y = scale(diabetes.data[:, columns]), scale(diabetes.target)
figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained", sharex=True, sharey=True)
for ax, optimizer in zip(axes, (SGD(0.48), SGD(0.48, momentum=0.4)), strict=True):
    trainer = Trainer([2, 1], hidden="identity", optimizer=optimizer, initializer=[([[-1.5], [-0.5]], [0.0])])
    DescentDisplay.from_trainer(
        trainer, X, Y, weights=((0, 0, 0), (0, 1, 0)), epochs=12, limits=((-2, 2), (-1.5, 2)), n_points=81, ax=ax
    )
    ax.set(aspect="equal", title=f"learning rate {optimizer.learning_rate}, momentum {optimizer.momentum}")
    ax.set(xlabel="weight of s1, total cholesterol", ylabel="weight of s2, LDL cholesterol")
    ax.label_outer()
