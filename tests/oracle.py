"""The mathematics of briskmlp in float64 NumPy, straight from the equations: what every backend is held to.

Imports nothing of ours, so an error there cannot hide here. `test_oracle.py` holds it to things independent of it.

    forward    Z[l] = A[l-1] @ W[l] + b[l]         A[l] = f(Z[l])          A[0] = X (n, n_in)
    backward   delta[L] = ∂E/∂Z[L]                 delta[l] = (delta[l+1] @ W[l+1].T) * f'(Z[l])
               dW[l] = A[l-1].T @ delta[l]         db[l] = delta[l].sum(axis=0)
    dropout    M[l] * A[l] in place of A[l] above, l = 1…L-1; each number of M[l] is 0 or 1 / (1 - rate)

`weights[l]` is (n_in, n_out), `weights[0]` the equations' W[1]. `biases[l]` is (n_out,), one per neuron; (1,), shared
by the layer; or (0,), none. `activations` has one name per layer; softmax and exp are for the last one only. Y is
dense (n, n_out), or (n,) when n_out is 1, or integer labels (n,) for softmax with cross_entropy.
"""

from dataclasses import dataclass, field

import numpy as np

LEAK, HUBER = 0.01, 1.0


def sigmoid(Z):
    """1 / (1 + exp(-Z)), with an exponential that never overflows and never cancels."""
    small = np.exp(-np.abs(Z))
    return np.where(Z >= 0, 1, small) / (1 + small)


def softmax(Z):
    """exp(Z) / Σ_outputs exp(Z), moved by the row's maximum so that nothing overflows."""
    powers = np.exp(Z - Z.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


ACTIVATION = {  # name: f(Z), and f'(Z) in terms of A = f(Z)
    "sigmoid": (sigmoid, lambda A: A * (1 - A)),
    "tanh": (np.tanh, lambda A: 1 - A**2),
    "relu": (lambda Z: np.maximum(Z, 0), lambda A: A > 0),  # np.maximum lets NaN through
    "identity": (lambda Z: Z, np.ones_like),
    "softmax": (softmax, None),  # every output depends on every Z: see _output_delta
    "leaky_relu": (lambda Z: np.where(Z > 0, Z, LEAK * Z), lambda A: np.where(A > 0, 1.0, LEAK)),
    "exp": (np.exp, lambda A: A),
}


def _forward(weights, biases, activations, X, masks=None):
    """A[0…L] before dropout, each (n, n_out of its layer), and Z[L]. `masks` has one M per hidden layer."""
    assert not {"softmax", "exp"} & {*activations[:-1]}, "softmax and exp are output activations"
    X = np.asarray(X, dtype=float)
    A = [X.reshape(len(X), -1)]
    for W, b, name, M in zip(weights, biases, activations, _below(masks, len(weights)), strict=True):
        Z = (A[-1] * M) @ np.asarray(W, dtype=float)
        if len(b):  # a (1,) bias broadcasts over the layer
            Z = Z + np.asarray(b, dtype=float)
        A.append(ACTIVATION[name][0](Z))
    return A, Z


def _below(masks, n_layers):
    """M of what each layer reads: X is never dropped."""
    return [1.0, *(masks or [1.0] * (n_layers - 1))]


def forward(weights, biases, activations, X):
    """The activations A[0…L]: L + 1 float64 arrays, A[0] being X and A[L] the prediction (n, n_out)."""
    return _forward(weights, biases, activations, X)[0]


def _targets(Y, n_out, loss, output):
    """Y as float64 (n, n_out); labels become one-hot rows."""
    Y = np.asarray(Y)
    if Y.dtype.kind in "iub" and Y.size == len(Y) and (loss, output) == ("cross_entropy", "softmax") and n_out > 1:
        return np.eye(n_out)[Y.reshape(-1).astype(int)]
    Y = Y.reshape(len(Y), -1).astype(float)
    assert Y.shape[1] == n_out, f"Y has {Y.shape[1]} columns for {n_out} outputs"
    return Y


def _row_weights(weight, n):
    return np.ones(n) if weight is None else np.asarray(weight, dtype=float)


def _losses(loss, output, Z, A, Y):
    """E_i of each example, (n,). Cross-entropy comes from Z: the logarithm of a rounded A would lose digits."""
    if loss == "mse":
        return ((A - Y) ** 2).sum(axis=1)
    if loss == "absolute_error":
        return np.abs(A - Y).sum(axis=1)
    if loss == "huber":
        size = np.abs(A - Y)
        return np.where(size <= HUBER, size**2 / 2, HUBER * (size - HUBER / 2)).sum(axis=1)
    if (loss, output) == ("poisson", "exp"):
        assert (Y >= 0).all(), "counts"
        return (A - Y - Y * Z + Y * np.log(Y + (Y == 0))).sum(axis=1)
    if (loss, output) == ("cross_entropy", "softmax"):
        Z = Z - Z.max(axis=1, keepdims=True)
        log_a = Z - np.log(np.exp(Z).sum(axis=1, keepdims=True))
        return -(Y * log_a).sum(axis=1)
    if (loss, output) == ("cross_entropy", "sigmoid"):
        log_a, log_not_a = -np.logaddexp(0, -Z), -np.logaddexp(0, Z)
        return -(Y * log_a + (1 - Y) * log_not_a).sum(axis=1)
    raise ValueError(f"no such pair: {loss} with {output}")


def _output_delta(loss, output, A, Y):
    """∂E_i/∂Z[L] of each example, (n, n_out)."""
    if loss in ("mse", "absolute_error", "huber"):
        error = A - Y
        bounded = np.sign(error) if loss == "absolute_error" else np.clip(error, -HUBER, HUBER)
        g = 2 * error if loss == "mse" else bounded  # ∂E_i/∂A
        return A * (g - (g * A).sum(axis=1, keepdims=True)) if output == "softmax" else g * ACTIVATION[output][1](A)
    if output == "softmax":  # A - Y wherever the targets of a row sum to one
        return A * Y.sum(axis=1, keepdims=True) - Y
    return A - Y


def loss_sum(weights, biases, activations, loss, X, Y, weight=None, masks=None):
    """Σ_i weight_i · E_i, not divided by anything, without l2. mse: E_i = Σ_outputs (A - Y)², no ½."""
    A, Z = _forward(weights, biases, activations, X, masks)
    Y = _targets(Y, A[-1].shape[1], loss, activations[-1])
    return float(_row_weights(weight, len(Y)) @ _losses(loss, activations[-1], Z, A[-1], Y))


def gradient(weights, biases, activations, loss, X, Y, weight=None, l2=0.0, *, masks=None, loss_scale=1.0,
             report_scale=1.0):  # fmt: skip
    """(E, dW, db) of a batch, E = (Σ_i weight_i · E_i + l2/2 · Σ W²) / n, where n = Σ weight, or the number of rows.

    `loss_scale` multiplies each E_i, and thereby the gradient; `report_scale` each E_i in the E returned alone.
    """
    A, _ = _forward(weights, biases, activations, X, masks)
    Y = _targets(Y, A[-1].shape[1], loss, activations[-1])
    weight = _row_weights(weight, len(Y))
    n = weight.sum()
    E = report_scale * loss_scale * loss_sum(weights, biases, activations, loss, X, Y, weight, masks) / n
    delta = loss_scale * weight[:, None] * _output_delta(loss, activations[-1], A[-1], Y) / n
    dW, db, below = [], [], _below(masks, len(weights))
    for layer in reversed(range(len(weights))):
        W, b = np.asarray(weights[layer], dtype=float), biases[layer]
        E += l2 / 2 * (W**2).sum() / n
        dW.insert(0, (A[layer] * below[layer]).T @ delta + l2 * W / n)
        db.insert(0, delta.sum(axis=0) if len(b) == W.shape[1] else delta.sum(keepdims=True)[0, : len(b)])
        if layer > 0:
            delta = (delta @ W.T) * below[layer] * ACTIVATION[activations[layer - 1]][1](A[layer])
    return float(E), dW, db


def clip(gradients, largest):
    """The gradients times largest / norm if the norm of all their numbers is above `largest`."""
    norm = np.sqrt(sum((g**2).sum() for g in gradients))
    return [g * (largest / norm) for g in gradients] if norm > largest else gradients


def central_difference(f, arrays, eps=1e-6):
    """∂f/∂array, one per array. `f` takes no argument and reads `arrays`: float64, moved in place and put back."""
    slopes = [np.zeros(array.shape) for array in arrays]
    for array, slope in zip(arrays, slopes, strict=True):
        for i in np.ndindex(array.shape):
            value = array[i]
            array[i] = value + eps
            above = f()
            array[i] = value - eps
            below = f()
            array[i] = value
            slope[i] = (above - below) / (2 * eps)
    return slopes


@dataclass(kw_only=True)
class Optimizer:
    """PyTorch's semantics and defaults. `update` moves float64 arrays in place; one object serves one training run."""

    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    step: int = field(default=0, init=False)
    state: list = field(default_factory=list, init=False)  # (m, v) per parameter array, zero before step 1

    def update(self, parameters, gradients, lr):
        self.state = self.state or [(np.zeros(p.shape), np.zeros(p.shape)) for p in parameters]
        self.step += 1
        for p, g, (m, v) in zip(parameters, gradients, self.state, strict=True):
            self.move(p, self.decay(p, g, lr), m, v, lr)

    def decay(self, p, g, lr):
        return g + self.weight_decay * p


@dataclass(kw_only=True)
class SGD(Optimizer):
    momentum: float = 0.0
    nesterov: bool = False

    def move(self, p, g, m, v, lr):
        m[...] = self.momentum * m + g
        p -= lr * (g + self.momentum * m if self.nesterov else m)


@dataclass(kw_only=True)
class RatedSGD(SGD):
    """scikit-learn's form, whose velocity holds the learning rate."""

    def move(self, p, g, m, v, lr):
        m[...] = self.momentum * m - lr * g
        p += self.momentum * m - lr * g if self.nesterov else m


@dataclass(kw_only=True)
class Adam(Optimizer):
    betas: tuple = (0.9, 0.999)
    eps: float = 1e-8

    def move(self, p, g, m, v, lr):
        beta1, beta2 = self.betas
        m[...] = beta1 * m + (1 - beta1) * g
        v[...] = beta2 * v + (1 - beta2) * g**2
        p -= lr * m / (1 - beta1**self.step) / (np.sqrt(v / (1 - beta2**self.step)) + self.eps)


@dataclass(kw_only=True)
class RawAdam(Adam):
    """scikit-learn's form, which adds epsilon to √v before the correction of v."""

    def move(self, p, g, m, v, lr):
        beta1, beta2 = self.betas
        m[...] = beta1 * m + (1 - beta1) * g
        v[...] = beta2 * v + (1 - beta2) * g**2
        p -= lr * np.sqrt(1 - beta2**self.step) / (1 - beta1**self.step) * m / (np.sqrt(v) + self.eps)


@dataclass(kw_only=True)
class AdamW(Adam):
    weight_decay: float = 0.01

    def decay(self, p, g, lr):
        p *= 1 - lr * self.weight_decay
        return g


@dataclass(kw_only=True)
class RMSprop(Optimizer):
    learning_rate: float = 0.01
    alpha: float = 0.99
    eps: float = 1e-8

    def move(self, p, g, m, v, lr):
        v[...] = self.alpha * v + (1 - self.alpha) * g**2
        p -= lr * g / (np.sqrt(v) + self.eps)


def sample_order(seed, epoch, n):
    """Fisher-Yates over 0…n-1 with Philox words, key (seed, epoch): the order of an epoch's rows, int64 (n,)."""
    words = np.random.Philox(key=np.array([seed, epoch], dtype=np.uint64), counter=0).random_raw(max(n - 1, 0))
    order = np.arange(n, dtype=np.int64)
    for i, word in zip(range(n - 1, 0, -1), words.tolist(), strict=True):
        j = (word * (i + 1)) >> 64  # Python's integers: the high 64 bits of the 128-bit product
        order[i], order[j] = order[j], order[i]
    return order


def dropout_mask(seed, epoch, places, layer, n_units, rate):
    """M of a hidden layer (0 the first) for the rows at these places of an epoch: float64 (len(places), n_units).

    Each block of 16 units has four Philox words, key (seed, epoch), counter (1, 2, …; place, layer, 2), 16 bits a unit.
    """
    threshold = min(round(rate * 2**16), 2**16 - 1)
    key, rows = np.array([seed, epoch], dtype=np.uint64), []
    for place in places:
        counter = np.array([0, place, layer, 2], dtype=np.uint64)  # NumPy adds 1 before each block
        words = np.random.Philox(key=key, counter=counter).random_raw(4 * -(-n_units // 16)).tolist()
        rows.append([word >> shift & 0xFFFF for word in words for shift in (0, 16, 32, 48)][:n_units])
    return np.where(np.array(rows) < threshold, 0.0, 2**16 / (2**16 - threshold))


def train(weights, biases, activations, loss, optimizer, X, Y, *, epochs, batch_size, learning_rates=None, seed=0,
          shuffle=True, weight=None, l2=0.0, first_epoch=0, dropout=(), clip_norm=np.inf, report_rows=False,
          **scales):  # fmt: skip
    """(weights, biases, losses): new arrays after `epochs` more epochs, and each epoch's loss as History has it.

    An epoch's loss is Σ batch E · batch weight / Σ weight, each E (l2 included) taken before its update; with
    `report_rows` the weight of a batch is its number of rows. The last batch may be short and divides by its own
    weight; a batch of weight zero is skipped and is no step. `batch_size=None` means all rows. `learning_rates` has one
    number per epoch, or is one for all, or None: the optimizer's own. `dropout` has a rate for each hidden layer.
    `clip_norm` is the largest norm of a step's whole gradient, l2 included. `scales` are those of `gradient`.
    Called again with the same optimizer and `first_epoch=epochs`, it goes on where it stopped.
    """
    X, Y, weight = np.asarray(X, dtype=float), np.asarray(Y), _row_weights(weight, len(X))
    weights, biases = ([np.array(p, dtype=float) for p in arrays] for arrays in (weights, biases))
    rates = np.broadcast_to(optimizer.learning_rate if learning_rates is None else learning_rates, epochs)
    losses = []
    for epoch, lr in enumerate(rates.tolist(), start=first_epoch):
        order, total, counted = sample_order(seed, epoch, len(X)) if shuffle else np.arange(len(X)), 0.0, 0.0
        for start in range(0, len(X), batch_size or len(X)):
            rows = order[start : start + (batch_size or len(X))]
            if (batch_weight := weight[rows].sum()) > 0:
                places = range(start, start + len(rows))
                masks = [
                    dropout_mask(seed, epoch, places, layer, weights[layer].shape[1], rate)
                    for layer, rate in enumerate(dropout)
                ]
                batch = X[rows], Y[rows], weight[rows], l2
                E, dW, db = gradient(weights, biases, activations, loss, *batch, masks=masks, **scales)
                optimizer.update(weights + biases, clip(dW + db, clip_norm), lr)
                batch_weight = len(rows) if report_rows else batch_weight
                total, counted = total + E * batch_weight, counted + batch_weight
        losses.append(float(total / counted))
    return weights, biases, losses
