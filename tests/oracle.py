"""The mathematics of briskmlp in float64 NumPy, straight from the equations: what every backend is held to.

Imports nothing of ours, so an error there cannot hide here. `test_oracle.py` holds it to things independent of it.

    forward    Z[l] = A[l-1] @ W[l] + b[l]         A[l] = f(Z[l])          A[0] = X (n, n_in)
    backward   delta[L] = ∂E/∂Z[L]                 delta[l] = (delta[l+1] @ W[l+1].T) * f'(Z[l])
               dW[l] = A[l-1].T @ delta[l]         db[l] = delta[l].sum(axis=0)
    dropout    M[l] * A[l] in place of A[l] above, l = 1…L-1; each number of M[l] is 0 or 1 / (1 - rate)
    norm       N(Z[l]) in place of Z[l], or N(A[l]) in place of A[l], l = 0…L; see `Norm`

`weights[l]` is (n_in, n_out), `weights[0]` the equations' W[1]. `biases[l]` is (n_out,), one per neuron; (1,), shared
by the layer; or (0,), none. `activations` has one text per layer, "elu" or "elu(0.5)"; softmax and exp are for the last
one only. Y is dense (n, n_out), or (n,) when n_out is 1, or integer labels (n,) for softmax with cross_entropy.
"""

import math
from dataclasses import dataclass, field

import numpy as np

LEAK, HUBER = 0.01, 1.0
SELU_SCALE, SELU_ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717
GELU = math.sqrt(2 / math.pi), 0.044715  # u = GELU[0] · (z + GELU[1] · z³)


def sigmoid(Z):
    """1 / (1 + exp(-Z)), with an exponential that never overflows and never cancels."""
    small = np.exp(-np.abs(Z))
    return np.where(Z >= 0, 1, small) / (1 + small)


def softmax(Z):
    """exp(Z) / Σ_outputs exp(Z), moved by the row's maximum so that nothing overflows."""
    powers = np.exp(Z - Z.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def softplus(Z):
    """log(1 + exp(Z)): a sum of two positive numbers, neither of which overflows."""
    return np.maximum(Z, 0) + np.log1p(np.exp(-np.abs(Z)))


def normal(Z):
    """The standard normal distribution function: erfc keeps its lower tail's digits."""
    return np.vectorize(lambda z: math.erfc(-z / math.sqrt(2)) / 2, otypes=[float])(Z)


def gelu_tanh_slope(Z, A):
    """s + z s', where f = z s(2u) = z (1 + tanh u) / 2."""
    c, k = GELU
    s = sigmoid(2 * c * (Z + k * Z**3))
    return s + Z * s * (1 - s) * 2 * c * (1 + 3 * k * Z**2)


def mish_slope(Z, A):
    t = np.tanh(softplus(Z))
    return t + Z * (1 - t**2) * sigmoid(Z)


# name: f(Z), f'(Z) of Z and A = f(Z), and the defaults of the parameters that come after these
ACTIVATION = {
    "sigmoid": (sigmoid, lambda Z, A: A * (1 - A)),
    "tanh": (np.tanh, lambda Z, A: 1 - A**2),
    "relu": (lambda Z: np.maximum(Z, 0), lambda Z, A: A > 0),  # np.maximum lets NaN through
    "identity": (lambda Z: Z, lambda Z, A: np.ones_like(A)),
    "softmax": (softmax, None),  # every output depends on every Z: see _output_delta
    "leaky_relu": (
        lambda Z, leak=LEAK: np.where(Z > 0, Z, leak * Z),
        lambda Z, A, leak=LEAK: np.where(A > 0, 1.0, leak),
    ),
    "exp": (np.exp, lambda Z, A: A),
    "elu": (
        lambda Z, alpha=1.0: np.where(Z > 0, Z, alpha * np.expm1(np.minimum(Z, 0))),
        lambda Z, A, alpha=1.0: np.where(Z > 0, 1.0, alpha * np.exp(np.minimum(Z, 0))),
    ),
    "selu": (
        lambda Z: SELU_SCALE * np.where(Z > 0, Z, SELU_ALPHA * np.expm1(np.minimum(Z, 0))),
        lambda Z, A: SELU_SCALE * np.where(Z > 0, 1.0, SELU_ALPHA * np.exp(np.minimum(Z, 0))),
    ),
    "celu": (
        lambda Z, alpha=1.0: np.where(Z > 0, Z, alpha * np.expm1(np.minimum(Z, 0) / alpha)),
        lambda Z, A, alpha=1.0: np.where(Z > 0, 1.0, np.exp(np.minimum(Z, 0) / alpha)),
    ),
    "softplus": (
        lambda Z, beta=1.0, threshold=20.0: np.where(beta * Z > threshold, Z, softplus(beta * Z) / beta),
        lambda Z, A, beta=1.0, threshold=20.0: np.where(beta * Z > threshold, 1.0, sigmoid(beta * Z)),
    ),
    "softsign": (lambda Z: Z / (1 + np.abs(Z)), lambda Z, A: 1 / (1 + np.abs(Z)) ** 2),
    "hardtanh": (
        lambda Z, low=-1.0, high=1.0: np.minimum(np.maximum(Z, low), high),
        lambda Z, A, low=-1.0, high=1.0: (low < Z) & (high > Z),
    ),
    "relu6": (lambda Z: np.minimum(np.maximum(Z, 0), 6), lambda Z, A: (Z > 0) & (Z < 6)),
    "log_sigmoid": (lambda Z: -softplus(-Z), lambda Z, A: sigmoid(-Z)),
    "gelu": (
        lambda Z: Z * normal(Z),
        lambda Z, A: normal(Z) + Z * np.exp(-(Z**2) / 2) / math.sqrt(2 * math.pi),
    ),
    "gelu_tanh": (lambda Z: Z * sigmoid(2 * GELU[0] * (Z + GELU[1] * Z**3)), gelu_tanh_slope),
    "silu": (lambda Z: Z * sigmoid(Z), lambda Z, A: sigmoid(Z) * (1 + Z * sigmoid(-Z))),
    "mish": (lambda Z: Z * np.tanh(softplus(Z)), mish_slope),
    "hardswish": (
        lambda Z: Z * np.minimum(np.maximum(Z + 3, 0), 6) / 6,
        lambda Z, A: np.where(Z <= -3, 0.0, np.where(Z >= 3, 1.0, (2 * Z + 3) / 6)),
    ),
}


def _parse(text):
    """The name and the parameters of a text such as "leaky_relu(0.2)"."""
    name, _, inside = text.partition("(")
    return name, [float(number) for number in inside.rstrip(")").split(",")] if inside else []


def activate(text, Z):
    """f(Z)."""
    name, parameters = _parse(text)
    return ACTIVATION[name][0](Z, *parameters)


def slope(text, Z, A):
    """f'(Z), where A = f(Z)."""
    name, parameters = _parse(text)
    return ACTIVATION[name][1](Z, A, *parameters)


@dataclass(kw_only=True)
class Norm:
    """γ (N - mean) / sqrt(variance + eps) + β: of each column over a batch, or of each row over a layer's neurons.

    Predictions take the running `mean` and `variance` of a batch normalisation; a step moves these by `momentum`
    towards the batch's, the variance with n - 1. A `fixed` one takes them in training as well, and moves none. `place`
    is l of the layer, 0 for X; `position` says whether the activation comes after it or before it.
    """

    kind: str  # "batch" or "layer"
    place: int
    position: str = "before"
    gamma: np.ndarray
    beta: np.ndarray
    eps: float = 1e-5
    momentum: float = 0.1
    mean: np.ndarray | None = None
    variance: np.ndarray | None = None
    fixed: bool = False

    def by_batch(self, training):
        return self.kind == "batch" and training and not self.fixed

    def hat(self, N, training):
        """(N - mean) / sqrt(variance + eps), and that root."""
        if self.kind == "batch" and not self.by_batch(training):
            root = np.sqrt(self.variance + self.eps)
            return (N - self.mean) / root, root
        axis = 0 if self.kind == "batch" else 1
        root = np.sqrt(N.var(axis=axis, keepdims=True) + self.eps)
        return (N - N.mean(axis=axis, keepdims=True)) / root, root

    def apply(self, N, training):
        return self.gamma * self.hat(N, training)[0] + self.beta

    def back(self, N, delta):
        """dE/dN, dγ, dβ, from dE by the result; the Jacobian of each vector x is (1 - 11'/n - x x'/n) / root."""
        hat, root = self.hat(N, True)
        g = delta * self.gamma
        dN = g / root
        if self.by_batch(True) or self.kind == "layer":
            vectors = zip(hat.T, g.T, strict=True) if self.kind == "batch" else zip(hat, g, strict=True)
            moved = [v - v.sum() / len(v) - x * (x @ v) / len(v) for x, v in vectors]
            dN = (np.array(moved).T if self.kind == "batch" else np.array(moved)) / root
        return dN, (delta * hat).sum(axis=0), delta.sum(axis=0)

    def move(self, N):
        """Move the running statistics by the batch N."""
        if self.by_batch(True):
            self.mean = (1 - self.momentum) * self.mean + self.momentum * N.mean(axis=0)
            self.variance = (1 - self.momentum) * self.variance + self.momentum * N.var(axis=0, ddof=1)


def _norm_at(norms, place, position):
    return next((norm for norm in norms if (norm.place, norm.position) == (place, position)), None)


def _forward(weights, biases, activations, X, masks=None, norms=(), training=False):
    """A[0…L] before dropout, each (n, n_out of its layer), and Z[1…L]. `masks` has one M per hidden layer.

    Both are normalised where that comes before the activation. With `norms`, also what each place's norm was given.
    """
    assert not {"softmax", "exp"} & {*activations[:-1]}, "softmax and exp are output activations"
    X = np.asarray(X, dtype=float)
    given = {}

    def normed(place, position, N):
        norm = _norm_at(norms, place, position)
        if norm is None:
            return N
        given[place] = N
        return norm.apply(N, training)

    A, sums, before = [normed(0, "before", X.reshape(len(X), -1))], [], []
    layers = zip(weights, biases, activations, _below(masks, len(weights)), strict=True)
    for place, (W, b, name, M) in enumerate(layers, start=1):
        Z = (A[-1] * M) @ np.asarray(W, dtype=float)
        if len(b):  # a (1,) bias broadcasts over the layer
            Z = Z + np.asarray(b, dtype=float)
        Z = normed(place, "before", Z)
        sums.append(Z)
        before.append(activate(name, Z))
        A.append(normed(place, "after", before[-1]))
    return (A, sums, before, given) if norms else (A, sums)


def _below(masks, n_layers):
    """M of what each layer reads: X is never dropped."""
    return [1.0, *(masks or [1.0] * (n_layers - 1))]


def forward(weights, biases, activations, X, norms=()):
    """The activations A[0…L]: L + 1 float64 arrays, A[0] being X and A[L] the prediction (n, n_out)."""
    return _forward(weights, biases, activations, X, norms=norms)[0]


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
    if loss == "poisson":
        assert (Y >= 0).all(), "counts"
        return (A - Y - Y * _log(output, Z, A) + Y * np.log(Y + (Y == 0))).sum(axis=1)
    if (loss, output) == ("cross_entropy", "softmax"):
        Z = Z - Z.max(axis=1, keepdims=True)
        log_a = Z - np.log(np.exp(Z).sum(axis=1, keepdims=True))
        return -(Y * log_a).sum(axis=1)
    if (loss, output) == ("cross_entropy", "sigmoid"):
        log_a, log_not_a = -np.logaddexp(0, -Z), -np.logaddexp(0, Z)
        return -(Y * log_a + (1 - Y) * log_not_a).sum(axis=1)
    raise ValueError(f"no such pair: {loss} with {output}")


def _log(output, Z, A):
    """log A of exp, which is Z; and of softplus, beta Z - log beta where A is so small that digits are lost."""
    name, (beta, *_) = _parse(output)[0], [*_parse(output)[1], 1.0]
    if name == "exp":
        return Z
    assert name == "softplus", f"no such pair: poisson with {output}"
    tail = beta * Z < -40
    return np.where(tail, beta * Z - math.log(beta), np.log(np.where(tail, 1.0, A)))


def _output_delta(loss, output, Z, A, Y):
    """∂E_i/∂Z[L] of each example, (n, n_out)."""
    if loss in ("mse", "absolute_error", "huber"):
        error = A - Y
        bounded = np.sign(error) if loss == "absolute_error" else np.clip(error, -HUBER, HUBER)
        g = 2 * error if loss == "mse" else bounded  # ∂E_i/∂A
        return A * (g - (g * A).sum(axis=1, keepdims=True)) if output == "softmax" else g * slope(output, Z, A)
    if loss == "poisson" and output != "exp":  # f' (1 - Y / A), where f' / A = beta in the tail
        beta = [*_parse(output)[1], 1.0][0]
        tail = beta * Z < -40
        share = np.where(tail, beta, slope(output, Z, A) / np.where(tail, 1.0, A))
        return slope(output, Z, A) - Y * share
    if output == "softmax":  # A - Y wherever the targets of a row sum to one
        return A * Y.sum(axis=1, keepdims=True) - Y
    return A - Y


def loss_sum(weights, biases, activations, loss, X, Y, weight=None, masks=None, norms=(), training=False):
    """Σ_i weight_i · E_i, not divided by anything, without l2. mse: E_i = Σ_outputs (A - Y)², no ½."""
    A, Z = _forward(weights, biases, activations, X, masks, norms, training)[:2]
    Y = _targets(Y, A[-1].shape[1], loss, activations[-1])
    return float(_row_weights(weight, len(Y)) @ _losses(loss, activations[-1], Z[-1], A[-1], Y))


def gradient(weights, biases, activations, loss, X, Y, weight=None, l2=0.0, *, masks=None, loss_scale=1.0,
             report_scale=1.0, norms=()):  # fmt: skip
    """(E, dW, db) of a batch, E = (Σ_i weight_i · E_i + l2/2 · Σ W²) / n, where n = Σ weight, or the number of rows.

    `loss_scale` multiplies each E_i, and thereby the gradient; `report_scale` each E_i in the E returned alone. With
    `norms` also dγ and dβ, in their order: (E, dW, db, dγ, dβ).
    """
    A, Z, before, given = (*_forward(weights, biases, activations, X, masks, norms, True), None, {})[:4]
    before = A[1:] if before is None else before
    affine = {}  # of each place, dγ and dβ

    def back(place, position, delta):
        norm = _norm_at(norms, place, position)
        if norm is None:
            return delta
        delta, *affine[place] = norm.back(given[place], delta)
        return delta

    Y = _targets(Y, A[-1].shape[1], loss, activations[-1])
    weight = _row_weights(weight, len(Y))
    n = weight.sum()
    sums = loss_sum(weights, biases, activations, loss, X, Y, weight, masks, norms, True)
    E = report_scale * loss_scale * sums / n
    delta = loss_scale * weight[:, None] * _output_delta(loss, activations[-1], Z[-1], A[-1], Y) / n
    delta = back(len(weights), "before", delta)
    dW, db, below = [], [], _below(masks, len(weights))
    for layer in reversed(range(len(weights))):
        W, b = np.asarray(weights[layer], dtype=float), biases[layer]
        E += l2 / 2 * (W**2).sum() / n
        dW.insert(0, (A[layer] * below[layer]).T @ delta + l2 * W / n)
        db.insert(0, delta.sum(axis=0) if len(b) == W.shape[1] else delta.sum(keepdims=True)[0, : len(b)])
        delta = back(layer, "after", (delta @ W.T) * below[layer])
        if layer > 0:
            delta = delta * slope(activations[layer - 1], Z[layer - 1], before[layer - 1])
        delta = back(layer, "before", delta)
    if norms:
        return float(E), dW, db, *([affine[norm.place][k] for norm in norms] for k in (0, 1))
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
    state: list = field(default_factory=list, init=False)  # (m, v, x) per parameter array

    def update(self, parameters, gradients, lr):
        initial = getattr(self, "initial_accumulator_value", 0.0)
        self.state = self.state or [[np.full(p.shape, initial) for _ in range(3)] for p in parameters]
        self.step += 1
        for p, g, slots in zip(parameters, gradients, self.state, strict=True):
            self.move(p, self.decay(p, g, lr), *slots, lr)

    def decay(self, p, g, lr):
        if getattr(self, "decoupled_weight_decay", False):
            p *= 1 - lr * self.weight_decay
            return g
        return g + self.weight_decay * p


@dataclass(kw_only=True)
class SGD(Optimizer):
    momentum: float = 0.0
    dampening: float = 0.0
    nesterov: bool = False

    def move(self, p, g, m, v, x, lr):
        m[...] = g if self.step == 1 else self.momentum * m + (1 - self.dampening) * g
        v[...] = m if self.momentum else g
        p -= lr * (g + self.momentum * m if self.nesterov else v)


@dataclass(kw_only=True)
class RatedSGD(SGD):
    """scikit-learn's form, whose velocity holds the learning rate."""

    def move(self, p, g, m, v, x, lr):
        m[...] = self.momentum * m - lr * g
        p += self.momentum * m - lr * g if self.nesterov else m


@dataclass(kw_only=True)
class Adam(Optimizer):
    betas: tuple = (0.9, 0.999)
    eps: float = 1e-8
    amsgrad: bool = False

    def means(self, g, m, v):
        """Move the running means of g and g², and return what each was corrected to."""
        for mean, beta, power in ((m, self.betas[0], g), (v, self.betas[1], g**2)):
            mean[...] = beta * mean + (1 - beta) * power
        return m / (1 - self.betas[0] ** self.step), v / (1 - self.betas[1] ** self.step)

    def move(self, p, g, m, v, x, lr):
        m_hat, v_hat = self.means(g, m, v)
        x[...] = np.maximum(x, v)
        largest = x / (1 - self.betas[1] ** self.step)
        p -= lr * m_hat / (np.sqrt(largest if self.amsgrad else v_hat) + self.eps)


@dataclass(kw_only=True)
class RawAdam(Adam):
    """scikit-learn's form, which adds epsilon to √v before the correction of v."""

    def move(self, p, g, m, v, x, lr):
        m_hat, _ = self.means(g, m, v)
        p -= lr * np.sqrt(1 - self.betas[1] ** self.step) * m_hat / (np.sqrt(v) + self.eps)


@dataclass(kw_only=True)
class AdamW(Adam):
    weight_decay: float = 0.01
    decoupled_weight_decay: bool = field(default=True, init=False)


@dataclass(kw_only=True)
class NAdam(Adam):
    learning_rate: float = 2e-3
    momentum_decay: float = 4e-3
    decoupled_weight_decay: bool = False
    amsgrad: bool = field(default=False, init=False)

    def mu(self, t):
        return self.betas[0] * (1 - 0.96 ** (t * self.momentum_decay) / 2)

    def move(self, p, g, m, v, x, lr):
        _, v_hat = self.means(g, m, v)
        mu, following = self.mu(self.step), self.mu(self.step + 1)
        product = math.prod(self.mu(t) for t in range(1, self.step + 1))
        nesterov = following * m / (1 - product * following) + (1 - mu) * g / (1 - product)
        p -= lr * nesterov / (np.sqrt(v_hat) + self.eps)


@dataclass(kw_only=True)
class RAdam(Adam):
    decoupled_weight_decay: bool = False
    amsgrad: bool = field(default=False, init=False)

    def move(self, p, g, m, v, x, lr):
        m_hat, _ = self.means(g, m, v)
        beta2, t = self.betas[1], self.step
        limit = 2 / (1 - beta2) - 1
        rho = limit - 2 * t * beta2**t / (1 - beta2**t)
        if rho <= 5:
            p -= lr * m_hat
            return
        r = np.sqrt((rho - 4) * (rho - 2) * limit / ((limit - 4) * (limit - 2) * rho))
        p -= lr * m_hat * r * np.sqrt(1 - beta2**t) / (np.sqrt(v) + self.eps)


@dataclass(kw_only=True)
class Adamax(Optimizer):
    learning_rate: float = 2e-3
    betas: tuple = (0.9, 0.999)
    eps: float = 1e-8

    def move(self, p, g, m, v, x, lr):
        m[...] = self.betas[0] * m + (1 - self.betas[0]) * g
        v[...] = np.maximum(self.betas[1] * v, np.abs(g) + self.eps)
        p -= lr / (1 - self.betas[0] ** self.step) * m / v


@dataclass(kw_only=True)
class Adagrad(Optimizer):
    learning_rate: float = 0.01
    lr_decay: float = 0.0
    initial_accumulator_value: float = 0.0
    eps: float = 1e-10

    def move(self, p, g, m, v, x, lr):
        v += g**2
        p -= lr / (1 + (self.step - 1) * self.lr_decay) * g / (np.sqrt(v) + self.eps)


@dataclass(kw_only=True)
class Adadelta(Optimizer):
    learning_rate: float = 1.0
    rho: float = 0.9
    eps: float = 1e-6

    def move(self, p, g, m, v, x, lr):
        v[...] = self.rho * v + (1 - self.rho) * g**2
        delta = np.sqrt(m + self.eps) / np.sqrt(v + self.eps) * g
        m[...] = self.rho * m + (1 - self.rho) * delta**2
        p -= lr * delta


@dataclass(kw_only=True)
class RMSprop(Optimizer):
    learning_rate: float = 0.01
    alpha: float = 0.99
    eps: float = 1e-8
    momentum: float = 0.0
    centered: bool = False

    def move(self, p, g, m, v, x, lr):
        v[...] = self.alpha * v + (1 - self.alpha) * g**2
        x[...] = self.alpha * x + (1 - self.alpha) * g
        move = g / (np.sqrt(v - x**2 if self.centered else v) + self.eps)
        m[...] = self.momentum * m + move
        p -= lr * m


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
          shuffle=True, weight=None, l2=0.0, first_epoch=0, dropout=(), clip_norm=np.inf, report_rows=False, norms=(),
          **scales):  # fmt: skip
    """(weights, biases, losses): new arrays after `epochs` more epochs, and each epoch's loss as History has it.

    An epoch's loss is Σ batch E · batch weight / Σ weight, each E (l2 included) taken before its update; with
    `report_rows` the weight of a batch is its number of rows. The last batch may be short and divides by its own
    weight; a batch of weight zero is skipped and is no step. `batch_size=None` means all rows. `learning_rates` has one
    number per epoch, or is one for all, or None: the optimizer's own. `dropout` has a rate for each hidden layer.
    `clip_norm` is the largest norm of a step's whole gradient, l2 included. `scales` are those of `gradient`.
    Called again with the same optimizer and `first_epoch=epochs`, it goes on where it stopped. `norms` are moved in
    place: γ, β and running statistics.
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
                E, *grads = gradient(weights, biases, activations, loss, *batch, masks=masks, norms=norms, **scales)
                if norms:
                    given = _forward(weights, biases, activations, X[rows], masks, norms, True)[3]
                    for norm in norms:
                        norm.move(given[norm.place])
                moved = weights + biases + [norm.gamma for norm in norms] + [norm.beta for norm in norms]
                optimizer.update(moved, clip([g for kind in grads for g in kind], clip_norm), lr)
                batch_weight = len(rows) if report_rows else batch_weight
                total, counted = total + E * batch_weight, counted + batch_weight
        losses.append(float(total / counted))
    return weights, biases, losses
