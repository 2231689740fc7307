"""How far rounding can move forward, loss and gradient: running error analysis, to first order in u.

u is half the distance from 1 to the next number. Every array below comes with an array of the same shape that bounds
the error of any evaluation in that precision, whatever the order of its sums (Higham 2002, "Accuracy and Stability of
Numerical Algorithms", sections 3.1 and 3.3):

    a sum of K products      |fl(x·y) - x·y| <= K u |x|·|y|, plus the errors that x and y bring with them
    f(Z) with Lipschitz L    L |dZ| + FUNCTION u |f(Z)|
    a product x y            |dx| |y| + |x| |dy| + u |x y|

Precisions below the highest add what rounding operands costs: 2**-8 of each in bfloat16, A and delta where they are
kept and W in each product; 2**-15 of each product in high, whose sums are three times as long.

Two evaluations, the kernel's and the oracle's, may differ by one bound each; the oracle's is in float64.
"""

import numpy as np
import oracle

from briskmlp.operations.activations import chosen
from briskmlp.plan import BFLOAT16, HIGH, HIGHEST

EXACT = ("sigmoid", "tanh", "relu", "identity", "leaky_relu")  # which round no argument of a function
FUNCTION = 10  # u per activation: 2 ulp promised for sigmoid (4 u), twice that for libm's tanh and quotients of sums
# |d f'/dA| of an activation whose f' is computed from A
CHANGE = {
    "sigmoid": lambda A: np.abs(1 - 2 * A),
    "tanh": lambda A: 2 * np.abs(A),
    "elu": lambda A, *_: np.ones_like(A),
    "selu": np.ones_like,
    "celu": lambda A, alpha=1.0: np.full_like(A, 1 / alpha),
    "softplus": lambda A, beta=1.0, _=20.0: beta * np.exp(-beta * A),
    "softsign": lambda A: 2 * (1 - np.abs(A)),
    "log_sigmoid": np.exp,
}


def _slope_error(text, Z, dZ, A, dA, u):
    """Return f'(Z) and how far it is off, to where it has no kink.

    A slope that is saved is a sum of products of functions of Z, of size 1 + |Z| at most; their arguments are rounded,
    too, as in `_activation_error`. No f'' of these is above 1.
    """
    choice, slope = chosen(text), oracle.slope(text, Z, A) * 1.0
    if choice.row.saves == "slope":
        return slope, dZ + (FUNCTION + 4 * Z**2) * u * (1 + np.abs(Z))
    change = CHANGE.get(choice.row.name, lambda A, *_: np.zeros_like(A))
    return slope, change(A, *choice.values) * dA


def _at_kink(text, Z, dZ):
    """Return by how much f' may be that of the other side: the jump, where Z is within its error of one."""
    choice, jump = chosen(text), np.zeros_like(Z)
    for kink in choice.row.kinks(*choice.values):
        below, above = (
            oracle.slope(text, z, oracle.activate(text, z)) * 1.0 for z in np.array([kink - 1e-9, kink + 1e-9])
        )
        jump = np.where(np.abs(Z - kink) <= dZ, abs(above - below), jump)
    return jump


def bounds(case, rows=None):
    """Return the largest distance from the oracle of (A[L], un-normalised loss, un-normalised flat gradient)."""
    u = np.finfo(case.dtype).eps / 2 + np.finfo(float).eps / 2
    precision = case.plan.precision
    kept = 2.0**-8 if precision == BFLOAT16 else 0.0
    parts = {HIGHEST: 0.0, HIGH: 2.0**-15, BFLOAT16: 0.0}[precision]  # of both operands
    copied = {HIGHEST: 0.0, HIGH: 2.0**-15, BFLOAT16: 2.0**-8}[precision]  # of one that is kept, and of W
    runs = 3 if precision == HIGH else 1
    rows = case.rows if rows is None else rows
    weights, biases = case.tensors(case.params)
    names = case.network.activations
    A = oracle.forward(weights, biases, names, case.X[rows])
    dA, kink, steps = [kept * np.abs(A[0])], [None], []
    for l, (W, b) in enumerate(zip(weights, biases, strict=True)):
        b = np.abs(b) if len(b) else 0.0
        dZ = dA[l] @ np.abs(W) + ((runs * len(W) + 1) * u + copied) * (np.abs(A[l]) @ np.abs(W) + b)
        Z = A[l] @ W + (biases[l] if len(biases[l]) else 0.0)
        dA.append(_activation_error(names[l], A[l + 1], Z, dZ, u))
        dA[-1] += kept * np.abs(A[l + 1]) * (l + 1 < len(weights))
        steps.append((Z, dZ))
        kink.append(None if names[l] in ("softmax", "exp") else _at_kink(names[l], Z, dZ))
    Y = oracle._targets(case.Y[rows], case.network.n_out, case.loss, names[-1])
    w = np.ones((len(rows), 1)) if case.weight is None else case.weight[rows, None].astype(float)
    loss, D, dD = _loss_error(case.loss, names[-1], A[-1], dA[-1], Z, dZ, kink[-1], Y, u)
    loss_error = float((w[:, 0] * loss[1]).sum()) + (len(rows) + 2) * u * float((w[:, 0] * loss[0]).sum())
    D, dD = w * D, w * dD + (3 * u + kept) * np.abs(w * D)
    errors_w, errors_b = [], []
    for l in reversed(range(len(weights))):
        W = weights[l]
        loss_error += case.l2 * W.size * u * float((W**2).sum())
        errors_w.insert(
            0,
            np.abs(A[l]).T @ dD
            + dA[l].T @ np.abs(D)
            + ((runs * len(rows) + 2) * u + parts) * (np.abs(A[l]).T @ np.abs(D)),
        )
        errors_w[0] += 3 * u * case.l2 * np.abs(W)
        db = dD.sum(axis=0) + (len(rows) + 2) * u * np.abs(D).sum(axis=0)
        errors_b.insert(
            0, db if len(biases[l]) > 1 or W.shape[1] == 1 else db.sum(keepdims=True) + W.shape[1] * u * np.abs(D).sum()
        )
        errors_b[0] = errors_b[0][: len(biases[l])]
        if l > 0:
            slope, off = _slope_error(names[l - 1], *steps[l - 1], A[l], dA[l], u)
            below = D @ W.T
            dP = dD @ np.abs(W).T + (runs * W.shape[1] * u + copied) * (np.abs(D) @ np.abs(W).T)
            D = below * slope
            dD = dP * np.abs(slope) + np.abs(below) * (off + kink[l]) + (4 * u + kept) * np.abs(D)
    return dA[-1], loss_error, case.flat(errors_w, errors_b)


def _activation_error(name, A, Z, dZ, u):
    if name == "softmax":  # dA_i = A_i (dZ_i - Σ A_j dZ_j), and Z - max(Z) rounds too
        dZ = dZ + u * np.abs(Z - Z.max(axis=1, keepdims=True))
        return A * (dZ + (A * dZ).sum(axis=1, keepdims=True)) + (A.shape[1] + FUNCTION) * u * A
    if name == "exp":
        return A * np.expm1(dZ) + FUNCTION * u * A
    if name in EXACT:
        lipschitz = oracle.slope(name, Z, A) if name in ("sigmoid", "tanh") else 1.0  # 1 on both sides of a kink
        return lipschitz * dZ + FUNCTION * u * np.abs(A)
    sides = [np.abs(oracle.slope(name, z, oracle.activate(name, z)) * 1.0) for z in (Z - dZ, Z, Z + dZ)]
    return np.max(sides, axis=0) * dZ + (FUNCTION + 4 * Z**2) * u * np.abs(A)  # arguments of exp of at most 4 Z² round


def _loss_error(loss, output, A, dA, Z, dZ, kink, Y, u):
    """Return (loss and its error per row), delta, and delta's error."""
    n_out = A.shape[1]
    if loss == "cross_entropy":
        E = oracle._losses(loss, output, Z, A, Y)
        size = np.abs(Z).max(axis=1) + 1 + np.log(n_out)  # what is added up and cancels: Z, max(Z), log Σ
        error = np.abs(Y).sum(axis=1) * 2 * dZ.max(axis=1) if output == "softmax" else 2 * dZ.sum(axis=1)
        error = error + (n_out + FUNCTION) * u * size * (1 if output == "softmax" else n_out)
        D = A - Y
        return (E, error), D, dA + 2 * u * (np.abs(A) + np.abs(Y))
    if loss == "poisson" and output != "exp":  # A - Y - Y log A + Y log Y; delta is f' (1 - Y / A)
        E, D = oracle._losses(loss, output, Z, A, Y), oracle._output_delta(loss, output, Z, A, Y)
        logarithm, (slope, off) = oracle._log(output, Z, A), _slope_error(output, Z, dZ, A, dA, u)
        size = (A + Y + np.abs(Y * logarithm) + np.abs(Y * np.log(Y + (Y == 0)))).sum(axis=1)
        error = (dA * (1 + Y / A)).sum(axis=1) + (n_out + FUNCTION) * u * size
        return (E, error), D, off * (1 + Y / A) + slope * Y * dA / A**2 + 6 * u * slope * (1 + Y / A)
    if loss == "poisson":  # exp(Z) - Y - Y Z + Y log Y, which cancel
        Y_log_Y = Y * np.log(Y + (Y == 0))
        size = (A + Y + np.abs(Y * Z) + np.abs(Y_log_Y)).sum(axis=1)
        error = (dA + Y * dZ).sum(axis=1) + (n_out + FUNCTION) * u * size
        return ((A - Y - Y * Z + Y_log_Y).sum(axis=1), error), A - Y, dA + 2 * u * (A + Y)
    error = A - Y
    d_error = dA + u * np.abs(error)
    E, g, dg = _of_error(loss, error, d_error)
    # at most two roundings make a term of the sum: huber's difference, and its product with d
    E = (E.sum(axis=1), (np.abs(g) * d_error).sum(axis=1) + (n_out + 2) * u * E.sum(axis=1))
    if output == "softmax":
        mean, absolute = (g * A).sum(axis=1, keepdims=True), (np.abs(g) * A).sum(axis=1, keepdims=True)
        d_mean = (dg * A + np.abs(g) * dA).sum(axis=1, keepdims=True) + (n_out + 1) * u * absolute
        return E, A * (g - mean), dA * np.abs(g - mean) + A * (dg + d_mean) + 3 * u * A * (np.abs(g) + absolute)
    slope, off = _slope_error(output, Z, dZ, A, dA, u)
    return E, g * slope, dg * np.abs(slope) + np.abs(g) * (off + kink) + 4 * u * np.abs(g * np.maximum(slope, 1))


def _of_error(loss, error, d_error):
    """Return E of A - Y, its derivative g, and g's error."""
    size = np.abs(error)
    if loss == "mse":
        return error**2, 2 * error, 2 * d_error
    if loss == "absolute_error":  # within its error of 0, an error's sign may be any
        return size, np.sign(error), 2.0 * (size <= d_error)
    d = oracle.HUBER
    return np.where(size <= d, size**2 / 2, d * (size - d / 2)), np.clip(error, -d, d), d_error
