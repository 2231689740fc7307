"""Who tests the oracle: things that share nothing with it.

Scalar loops, the textbook network's published numbers, central differences, decimal arithmetic, Philox written out
from its paper with the authors' known answers, and PyTorch's autograd and optimizers where it is installed.
"""

import math
from decimal import Decimal, localcontext
from itertools import pairwise

import numpy as np
import oracle
import pytest

HIDDEN = [name for name in oracle.ACTIVATION if name not in ("softmax", "exp")]
HIDDEN += ["leaky_relu(0.3)", "elu(0.5)", "celu(0.5)", "softplus(2.0, 30.0)", "hardtanh(-0.5, 2.0)"]
PAIRS = [("cross_entropy", "softmax"), ("cross_entropy", "sigmoid"), ("mse", "softmax"), ("poisson", "exp")]
PAIRS += [("poisson", "softplus"), ("poisson", "softplus(2.0, 30.0)")]
PAIRS += [(loss, name) for loss in ("mse", "absolute_error", "huber") for name in HIDDEN]
BIAS_SIZE = {"neuron": lambda n_out: n_out, "layer": lambda n_out: 1, "none": lambda n_out: 0}
CASES = [  # each pair with each kind of bias, and with ever another hidden activation
    (*pair, HIDDEN[(i + 7 * j) % len(HIDDEN)], bias) for j, bias in enumerate(BIAS_SIZE) for i, pair in enumerate(PAIRS)
]


def network(sizes, bias="neuron", seed=0):
    """Weights and biases of about unit size."""
    rng = np.random.default_rng(seed)
    weights = [rng.normal(size=shape) for shape in pairwise(sizes)]
    return weights, [rng.normal(size=BIAS_SIZE[bias](n_out)) for n_out in sizes[1:]]


def data(n, n_in, n_out, output="identity", seed=1):
    """X, targets that suit the output activation, and row weights one of which is zero."""
    rng = np.random.default_rng(seed)
    Y = rng.uniform(0.05, 0.95, size=(n, n_out))
    if output == "softmax":
        Y /= Y.sum(axis=1, keepdims=True)
    weight = rng.uniform(0.5, 2, size=n)
    weight[n // 2] = 0
    return rng.normal(size=(n, n_in)), Y, weight


def assert_all_close(actual, expected, **tolerance):
    for one, other in zip(actual, expected, strict=True):
        assert np.shape(one) == np.shape(other)
        np.testing.assert_allclose(one, other, **tolerance)


# ---- forward ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("bias", BIAS_SIZE)
def test_forward_equals_scalar_loops(bias):
    functions = [math.tanh, lambda z: max(z, 0.0), lambda z: 1 / (1 + math.exp(-z))]
    weights, biases = network([3, 4, 2, 5], bias)
    X, *_ = data(6, 3, 5)
    A = oracle.forward(weights, biases, ["tanh", "relu", "sigmoid"], X)
    assert [a.shape for a in A] == [(6, 3), (6, 4), (6, 2), (6, 5)]
    assert {a.dtype for a in A} == {np.dtype(np.float64)}
    for row in range(6):
        values = X[row].tolist()
        for layer, (W, b, f) in enumerate(zip(weights, biases, functions, strict=True), start=1):
            shifts = {"neuron": [*b], "layer": [*b] * W.shape[1], "none": [0.0] * W.shape[1]}[bias]
            sums = [sum(values[i] * W[i, j] for i in range(W.shape[0])) for j in range(W.shape[1])]
            values = [f(z + shift) for z, shift in zip(sums, shifts, strict=True)]
            np.testing.assert_allclose(A[layer][row], values, rtol=1e-13)


def test_sigmoid_is_accurate_and_never_overflows():
    Z = np.array([-745.0, -700, -100.5, -37, -1e-9, -0.0, 0, 0.3, 36.7, 700, 1e308])
    with localcontext() as context:
        context.prec = 400  # enough for 1 + exp(-700)
        exact = [float(1 / (1 + (-Decimal(z)).exp())) if abs(z) < 750 else 1.0 for z in Z.tolist()]
    np.testing.assert_allclose(oracle.sigmoid(Z), exact, rtol=1e-15, atol=5e-324)
    assert oracle.sigmoid(np.array([-np.inf, np.inf])).tolist() == [0, 1]


def test_softmax_is_stable():
    A = oracle.softmax(np.array([[1e4, 1e4], [-1e4, 0], [0, math.log(3)]]))
    np.testing.assert_allclose(A, [[0.5, 0.5], [0, 1], [0.25, 0.75]], rtol=1e-15)


@pytest.mark.parametrize("name", oracle.ACTIVATION)
def test_every_activation_lets_nan_through(name):
    assert np.isnan(oracle.forward([np.ones((1, 1))], [np.zeros(0)], [name], [[np.nan]])[-1]).all()


@pytest.mark.parametrize(
    "X", [np.arange(24).reshape(4, 3, 2), np.arange(24, dtype=np.float32).reshape(4, 6, order="F")]
)
def test_forward_flattens_and_widens(X):
    A = oracle.forward([np.eye(6, dtype=np.float32)], [np.zeros(6, np.float32)], ["identity"], X)
    assert A[0].dtype == A[1].dtype == np.float64
    np.testing.assert_array_equal(A[1], X.reshape(4, 6))


# ---- loss ------------------------------------------------------------------------------------------------------------
def test_loss_sum_by_hand():
    layer = [np.array([[1.0, 2.0]])], [np.zeros(0)]
    X, weight = [[1.0], [3.0]], [2.0, 0.5]
    # mse: (1-0)² + (2-0)² = 5 and (3-1)² + (6-1)² = 29
    assert oracle.loss_sum(*layer, ["identity"], "mse", X, [[0, 0], [1, 1]]) == 34
    assert oracle.loss_sum(*layer, ["identity"], "mse", X, [[0, 0], [1, 1]], weight) == 2 * 5 + 0.5 * 29
    # softmax of (1, 2) and of (3, 6), labels 0 and 1
    expected = [math.log(1 + math.exp(1)), math.log(1 + math.exp(-3))]
    for Y in ([0, 1], [[0], [1]], [False, True], [[1.0, 0.0], [0.0, 1.0]]):
        actual = oracle.loss_sum(*layer, ["softmax"], "cross_entropy", X, np.array(Y), weight)
        assert actual == pytest.approx(2 * expected[0] + 0.5 * expected[1], rel=1e-14)
    # sigmoid, binary, summed over the outputs
    a, b = 1 / (1 + math.exp(-1)), 1 / (1 + math.exp(-2))
    actual = oracle.loss_sum(*layer, ["sigmoid"], "cross_entropy", [[1.0]], [[1.0, 0.25]])
    assert actual == pytest.approx(-math.log(a) - 0.25 * math.log(b) - 0.75 * math.log(1 - b), rel=1e-14)


def test_losses_of_one_number_by_hand():
    def E(loss, output, z, y):
        return oracle.loss_sum([np.zeros((1, 1))], [np.array([z])], [output], loss, [[1.0]], [[y]])

    assert E("absolute_error", "identity", 3.0, 5.5) == 2.5
    assert E("absolute_error", "leaky_relu", -2.0, 1.0) == 1.02
    assert E("huber", "identity", 3.0, 3.5) == 0.125
    assert E("huber", "identity", 3.0, 4.0) == 0.5
    assert E("huber", "identity", 3.0, -1.0) == 3.5
    assert E("poisson", "exp", 0.0, 0.0) == 1
    assert E("poisson", "exp", math.log(2), 3.0) == pytest.approx(2 - 3 + 3 * math.log(3 / 2), rel=1e-14)
    assert E("poisson", "exp", math.log(3), 3.0) == pytest.approx(0, abs=1e-15)
    assert E("poisson", "softplus", 0.0, 0.0) == pytest.approx(math.log(2), rel=1e-14)
    assert E("poisson", "softplus", math.log(math.e**3 - 1), 3.0) == pytest.approx(0, abs=1e-15)
    assert E("poisson", "softplus", -800.0, 1.0) == 799  # A underflows, its logarithm does not
    assert E("poisson", "softplus(2.0, 20.0)", -800.0, 1.0) == pytest.approx(1600 + math.log(2) - 1, rel=1e-14)


@pytest.mark.parametrize(
    ("output", "z", "Y", "expected"),
    [
        ("sigmoid", [1000.0], [[0.0]], 1000),
        ("sigmoid", [-1000.0], [[1.0]], 1000),
        ("sigmoid", [700.0], [[1.0]], math.exp(-700)),
        ("softmax", [1000.0, -1000.0], [[0.0, 1.0]], 2000),
        ("softmax", [0.0, -40.0, 1000.0], [[0.0, 0.0, 1.0]], 0),
    ],
)
def test_cross_entropy_is_stable(output, z, Y, expected):
    E = oracle.loss_sum([np.zeros((1, len(z)))], [np.array(z)], [output], "cross_entropy", [[1.0]], Y)
    assert pytest.approx(expected, rel=1e-14, abs=0) == E


def test_one_column_targets_may_be_flat():
    layer = [np.ones((2, 1))], [np.zeros(1)]
    for pair in [(["sigmoid"], "cross_entropy"), (["identity"], "mse")]:
        flat, column = (oracle.loss_sum(*layer, *pair, np.eye(2), np.array(Y)) for Y in ([0, 1], [[0.0], [1.0]]))
        assert flat == column


@pytest.mark.parametrize(
    ("activations", "loss", "Y"),
    [
        (["relu", "identity"], "cross_entropy", np.eye(2)),  # no such pair
        (["softmax", "identity"], "mse", np.eye(2)),  # softmax in the middle
        (["relu", "identity"], "mse", np.array([0, 1])),  # labels without cross_entropy
        (["relu", "softmax"], "cross_entropy", np.eye(2)[:, :1]),  # too few columns
    ],
)
def test_what_has_no_meaning_is_refused(activations, loss, Y):
    with pytest.raises((ValueError, AssertionError)):
        oracle.gradient(*network([2, 2, 2]), activations, loss, np.eye(2), Y)


# ---- the textbook's network ------------------------------------------------------------------------------------------
def test_textbook_network():
    """M. Mazur's 2-2-2 example, one bias shared by each layer. His E has ½ and his rate is 0.5: the same step."""
    W1, W2 = np.array([[0.15, 0.25], [0.20, 0.30]]), np.array([[0.40, 0.50], [0.45, 0.55]])
    arguments = [W1, W2], [np.array([0.35]), np.array([0.60])], ["sigmoid", "sigmoid"]
    X, Y = [[0.05, 0.10]], [[0.01, 0.99]]
    _, hidden, output = oracle.forward(*arguments, X)
    np.testing.assert_allclose(hidden, [[0.593269992, 0.596884378]], atol=5e-10)
    np.testing.assert_allclose(output, [[0.75136507, 0.772928465]], atol=5e-9)
    assert oracle.loss_sum(*arguments, "mse", X, Y) == pytest.approx(0.596742218, abs=5e-10)

    weights, biases, losses = oracle.train(
        *arguments, "mse", oracle.SGD(), X, Y, epochs=1, batch_size=1, learning_rates=[0.25]
    )
    assert losses == [pytest.approx(0.596742218, abs=5e-10)]
    published = (
        [[0.149780716, 0.24975114], [0.19956143, 0.29950229]],
        [[0.35891648, 0.511301270], [0.408666186, 0.561370121]],
    )
    assert_all_close(weights, published, atol=5e-9, rtol=0)
    assert_all_close(biases, [[0.340637195], [0.549799837]], atol=5e-10, rtol=0)


# ---- gradient --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("loss", "output", "hidden", "bias"), CASES)
def test_gradient_equals_central_differences(loss, output, hidden, bias):
    weights, biases = network([3, 4, 3, 2], bias)
    X, Y, weight = data(5, 3, 2, output)
    batch = weights, biases, [hidden, hidden, output], loss, X, Y, weight
    l2 = 0.3

    def E():
        penalty = l2 / 2 * sum(float((W**2).sum()) for W in weights)
        return (oracle.loss_sum(*batch) + penalty) / weight.sum()

    value, dW, db = oracle.gradient(*batch, l2)
    assert value == pytest.approx(E(), rel=1e-14)
    assert_all_close(dW + db, oracle.central_difference(E, weights + biases), rtol=1e-6, atol=1e-8)


def test_gradient_with_masks_and_scales_equals_central_differences():
    weights, biases = network([3, 4, 6, 2], "layer")
    X, Y, weight = data(5, 3, 2)
    rng = np.random.default_rng(4)
    masks = [np.where(rng.uniform(size=(5, width)) < 0.4, 0, 1 / 0.6) for width in (4, 6)]
    batch = weights, biases, ["sigmoid", "leaky_relu", "tanh"], "mse", X, Y, weight

    def E(report_scale=1.0):
        penalty = 0.15 * sum(float((W**2).sum()) for W in weights)
        return (report_scale * 0.25 * oracle.loss_sum(*batch, masks) + penalty) / weight.sum()

    value, dW, db = oracle.gradient(*batch, 0.3, masks=masks, loss_scale=0.25, report_scale=0.5)
    assert value == pytest.approx(E(0.5), rel=1e-14)
    assert_all_close(dW + db, oracle.central_difference(E, weights + biases), rtol=1e-6, atol=1e-8)
    # what is dropped by a mask might as well have weights of 0 above it, and those above what is kept 1 / 0.6 as much
    masks = [np.array([[0, 1 / 0.6, 1 / 0.6, 0]]), np.ones((1, 6))]
    thinned = [weights[0], weights[1] * masks[0].T, weights[2]]
    arguments = biases, ["sigmoid", "leaky_relu", "tanh"], "mse", X, Y
    expected = oracle.loss_sum(thinned, *arguments)
    assert oracle.loss_sum(weights, *arguments, masks=masks) == pytest.approx(expected, rel=1e-14)


def test_clipping():
    gradients = [np.array([[3.0, 0.0]]), np.array([4.0])]
    assert_all_close(oracle.clip(gradients, 5.0), gradients, rtol=0)
    assert_all_close(oracle.clip(gradients, 2.5), [[[1.5, 0]], [2]], rtol=0)


def test_gradient_for_targets_that_do_not_sum_to_one():
    weights, biases = network([2, 3])
    batch = weights, biases, ["softmax"], "cross_entropy", np.eye(2), np.array([[0.5, 2, 1], [0, 0, 0.25]])
    _, dW, db = oracle.gradient(*batch)
    slopes = oracle.central_difference(lambda: oracle.loss_sum(*batch) / 2, weights + biases)
    assert_all_close(dW + db, slopes, rtol=1e-6, atol=1e-9)


def test_central_difference_of_a_known_function_through_views():
    buffer = np.arange(1.0, 7.0)
    before = buffer.copy()
    a, b = buffer[:4].reshape(2, 2).T, buffer[4:]
    slopes = oracle.central_difference(lambda: float((a**3).sum() + b[0] * b[1]), [a, b])
    assert_all_close(slopes, [3 * a**2, b[::-1]], rtol=1e-8)
    np.testing.assert_array_equal(buffer, before)


def test_integer_weights_equal_repeated_rows():
    arguments = *network([3, 4, 2]), ["tanh", "softmax"], "cross_entropy"
    X, _, _ = data(4, 3, 2)
    Y, repeat = np.array([0, 1, 1, 0]), np.array([2, 0, 1, 3])
    E, dW, db = oracle.gradient(*arguments, X, Y, repeat, 0.1)
    E_repeated, *repeated = oracle.gradient(*arguments, X.repeat(repeat, axis=0), Y.repeat(repeat), None, 0.1)
    assert pytest.approx(E_repeated, rel=1e-13) == E
    assert_all_close(dW + db, repeated[0] + repeated[1], rtol=1e-12, atol=1e-15)


def test_nothing_given_is_changed():
    weights, biases = network([3, 4, 2])
    X, Y, weight = data(5, 3, 2)
    given = [*weights, *biases, X, Y, weight]
    before = [array.copy() for array in given]
    network_and_loss = weights, biases, ["relu", "identity"], "mse"
    oracle.train(*network_and_loss, oracle.AdamW(), X, Y, epochs=2, batch_size=2, weight=weight, l2=0.1)
    assert_all_close(given, before, rtol=0)


# ---- sample order ----------------------------------------------------------------------------------------------------
def philox4x64(counter, key, rounds=10):
    """Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3 (2011). Four words from four and two."""
    mask = 2**64 - 1
    x0, x1, x2, x3 = counter
    k0, k1 = key
    for _ in range(rounds):
        product0, product1 = 0xD2E7470EE14C6C93 * x0, 0xCA5A826395121157 * x2
        x0, x1, x2, x3 = (product1 >> 64) ^ x1 ^ k0, product1 & mask, (product0 >> 64) ^ x3 ^ k1, product0 & mask
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) & mask, (k1 + 0xBB67AE8584CAA73B) & mask
    return [x0, x1, x2, x3]


@pytest.mark.parametrize(("counter", "key", "words"), [  # Random123's kat_vectors, philox4x64 10
    ([0] * 4, [0] * 2, [0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B]),
    ([2**64 - 1] * 4, [2**64 - 1] * 2,
     [0x87B092C3013FE90B, 0x438C3C67BE8D0224, 0x9CC7D7C69CD777B6, 0xA09CAEBF594F0BA0]),
    ([0x243F6A8885A308D3, 0x13198A2E03707344, 0xA4093822299F31D0, 0x082EFA98EC4E6C89],
     [0x452821E638D01377, 0xBE5466CF34E90C6C],
     [0xA528F45403E61D95, 0x38C72DBD566E9788, 0xA5A1610E72FD18B5, 0x57BD43B5E52B7FE6]),
])  # fmt: skip
def test_philox_known_answers(counter, key, words):
    assert philox4x64(counter, key) == words


@pytest.mark.parametrize("seed", [0, 1, 12345, 2**64 - 1])
@pytest.mark.parametrize("epoch", [0, 7])
@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 5, 6, 17, 101])
def test_sample_order_equals_fisher_yates_on_philox(seed, epoch, n):
    """NumPy increments its counter before each block of four words, so word 0 comes from counter 1."""
    words = [word for block in range(1, n // 4 + 2) for word in philox4x64([block, 0, 0, 0], [seed, epoch])]
    expected = list(range(n))
    for k, i in enumerate(reversed(range(1, n))):
        j = words[k] * (i + 1) // 2**64
        expected[i], expected[j] = expected[j], expected[i]
    order = oracle.sample_order(seed, epoch, n)
    assert order.dtype == np.int64
    assert order.tolist() == expected
    assert sorted(expected) == list(range(n))


@pytest.mark.parametrize(("seed", "epoch", "layer"), [(0, 0, 0), (2**64 - 1, 2**40, 3)])
def test_dropout_mask_is_what_the_paper_says(seed, epoch, layer):
    """Block b of 16 units has the four words of counter (b + 1, place, layer, 2), each unit 16 bits of them."""
    places, rate = [0, 7, 2**33], 0.25
    mask = oracle.dropout_mask(seed, epoch, places, layer, 37, rate)
    for place, row in zip(places, mask, strict=True):
        for unit, factor in enumerate(row.tolist()):
            word = philox4x64((unit // 16 + 1, place, layer, 2), (seed, epoch))[unit % 16 // 4]
            dropped = (word >> 16 * (unit % 4)) % 2**16 < 2**14
            assert factor == (0 if dropped else 4 / 3)


def test_sample_order_stays_what_it_is():
    """Written down so that no NumPy release and no later hand can move it."""
    assert oracle.sample_order(0, 0, 10).tolist() == [4, 7, 8, 5, 1, 6, 3, 9, 2, 0]
    assert oracle.sample_order(42, 3, 10).tolist() == [9, 4, 2, 6, 5, 1, 8, 3, 0, 7]


def test_sample_order_differs_between_seeds_and_epochs_and_is_uniform():
    assert oracle.sample_order(1, 2, 50).tolist() != oracle.sample_order(2, 1, 50).tolist()
    counts = np.zeros((4, 4))
    for epoch in range(3000):
        counts[np.arange(4), oracle.sample_order(9, epoch, 4)] += 1
    assert ((counts - 750) ** 2 / 750).sum() < 27.9  # χ², 9 degrees of freedom, 0.1 %


# ---- update and train ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("ours", "theirs", "options"), [
    (oracle.RatedSGD(momentum=0.9), "SGDOptimizer", {"momentum": 0.9, "nesterov": False}),
    (oracle.RatedSGD(momentum=0.8, nesterov=True), "SGDOptimizer", {"momentum": 0.8, "nesterov": True}),
    (oracle.RatedSGD(nesterov=True), "SGDOptimizer", {"momentum": 0.0, "nesterov": True}),
    (oracle.RawAdam(eps=0.1), "AdamOptimizer", {"epsilon": 0.1}),
    (oracle.RawAdam(betas=(0.7, 0.9)), "AdamOptimizer", {"beta_1": 0.7, "beta_2": 0.9}),
])  # fmt: skip
def test_scikit_learns_forms_are_scikit_learns(ours, theirs, options):
    optimizers = pytest.importorskip("sklearn.neural_network._stochastic_optimizers")
    rng = np.random.default_rng(0)
    expected = [rng.normal(size=(3, 2)), rng.normal(size=2)]
    found = [p.copy() for p in expected]
    optimizer = getattr(optimizers, theirs)(expected, learning_rate_init=0.1, **options)
    for lr in (0.1, 0.1, 0.05, 0.2):
        gradients = [rng.normal(size=p.shape) for p in expected]
        optimizer.learning_rate_init = optimizer.learning_rate = lr  # Adam's is learning_rate_init
        optimizer.update_params(expected, gradients)
        ours.update(found, gradients, lr)
    assert_all_close(found, expected, rtol=1e-13)


def test_history_rule_short_batch_and_skipped_batch():
    """Ten rows in batches of four, the second of weight zero: two steps, each divided by its own weight."""
    X, Y, _ = data(10, 2, 1)
    weight = np.array([1, 2, 0, 1, 0, 0, 0, 0, 3, 1.0])
    W, b, l2, lr = np.array([[0.3], [-0.2]]), np.array([0.1]), 0.2, 0.05
    trained = oracle.train([W], [b], ["identity"], "mse", oracle.SGD(), X, Y, epochs=1, batch_size=4,
                           learning_rates=lr, shuffle=False, weight=weight, l2=l2)  # fmt: skip
    total = 0.0
    for rows in (slice(0, 4), slice(8, 10)):  # least squares, written out
        error, w = X[rows] @ W + b - Y[rows], weight[rows, None]
        total += float((w * error**2).sum() + l2 / 2 * (W**2).sum())
        W, b = W - lr * (2 * X[rows].T @ (w * error) + l2 * W) / w.sum(), b - lr * 2 * (w * error).sum() / w.sum()
    assert_all_close([*trained[0], *trained[1], *trained[2]], [W, b, total / 8], rtol=1e-13)


def test_history_by_rows():
    """Two of the batches weigh 1 and 9; each E counts by its rows."""
    X, Y, weight = np.ones((5, 1)), np.array([[0.0], [0], [1], [2], [2]]), [0.5, 0.5, 0, 0, 9.0]
    arguments = [np.zeros((1, 1))], [np.zeros(0)], ["identity"], "mse", oracle.SGD(), X, Y
    options = {"epochs": 1, "batch_size": 2, "learning_rates": 0.0, "shuffle": False, "weight": weight}
    assert oracle.train(*arguments, **options)[2] == [pytest.approx((0 * 1 + 4 * 9) / 10)]
    assert oracle.train(*arguments, **options, report_rows=True)[2] == [pytest.approx((0 * 2 + 4 * 1) / 3)]


def test_training_goes_on_where_it_stopped():
    X, Y, weight = data(11, 3, 2)
    task = {"batch_size": 4, "seed": 5, "weight": weight}
    start, rates = network([3, 4, 2]), [0.1, 0.05, 0.02, 0.2]
    *whole, losses = oracle.train(*start, ["relu", "identity"], "mse", oracle.Adam(), X, Y,
                                  epochs=4, learning_rates=rates, **task)  # fmt: skip
    adam = oracle.Adam()
    *part, first = oracle.train(*start, ["relu", "identity"], "mse", adam, X, Y,
                                epochs=1, learning_rates=rates[:1], **task)  # fmt: skip
    *part, rest = oracle.train(*part, ["relu", "identity"], "mse", adam, X, Y,
                               epochs=3, learning_rates=rates[1:], first_epoch=1, **task)  # fmt: skip
    assert first + rest == losses
    assert_all_close(part[0] + part[1], whole[0] + whole[1], rtol=0)


def test_rows_are_taken_in_sample_order():
    """One step per row on W -= lr · 2 (W - y): the last W is a polynomial that only the right order gives."""
    X, Y = np.ones((7, 1)), np.arange(7.0)[:, None]
    weights, _, _ = oracle.train([np.zeros((1, 1))], [np.zeros(0)], ["identity"], "mse", oracle.SGD(), X, Y,
                                 epochs=2, batch_size=1, learning_rates=[0.125, 0.25], seed=8)  # fmt: skip
    w = 0.0
    for epoch, lr in enumerate([0.125, 0.25]):
        for y in oracle.sample_order(8, epoch, 7).tolist():
            w -= lr * 2 * (w - y)
    assert weights[0] == pytest.approx(w, rel=1e-13)


# ---- PyTorch ---------------------------------------------------------------------------------------------------------
@pytest.fixture(name="torch")
def torch_on_one_thread():
    """PyTorch; its threads would wait for each other longer than they compute on arrays this small."""
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)  # of NAdam's mu_product, too
    yield torch
    torch.set_default_dtype(torch.float32)
    torch.set_num_threads(threads)


def torch_parameters(torch, weights, biases):
    return [torch.tensor(p, dtype=torch.float64, requires_grad=True) for p in (*weights, *biases)]


def torch_function(torch, text):
    """PyTorch's function of the text of an activation."""
    functional, (name, _, inside) = torch.nn.functional, text.partition("(")
    special = {
        "identity": lambda z: z, "softmax": lambda z: torch.softmax(z, dim=1), "exp": torch.exp,
        "log_sigmoid": functional.logsigmoid, "gelu_tanh": lambda z: functional.gelu(z, approximate="tanh"),
    }  # fmt: skip
    parameters = [float(number) for number in inside.rstrip(")").split(",")] if inside else []
    return lambda z: special.get(name, getattr(functional, name, None))(z, *parameters)


@pytest.mark.torch
@pytest.mark.parametrize("text", [*HIDDEN, "exp"])
def test_activations_and_slopes_are_torchs(torch, text):
    """At kinks and thresholds as well, near them, and far out, where both tails keep their relative precision."""
    near = np.array([-6, -3, -1, -0.5, -0.0, 0, 1, 2, 3, 6, 10, 15, 20])
    Z = np.concatenate([near, near - 1e-9, near + 1e-9, np.linspace(-12, 12, 101), [-200, -30, 30, 200]])
    tensor = torch.tensor(Z, requires_grad=True)
    A = torch_function(torch, text)(tensor)
    A.sum().backward()
    found = oracle.activate(text, Z)
    # PyTorch's gelu and mish lose relative precision below 0: what they round is of size |z|
    np.testing.assert_allclose(found, A.detach().numpy(), rtol=1e-13, atol=1e-14)
    expected = tensor.grad.numpy()
    np.testing.assert_allclose(oracle.slope(text, Z, found) * 1.0, expected, rtol=1e-12, atol=1e-14)


def torch_loss(torch, parameters, activations, loss, X, Y, weight):
    """Σ weight_i E_i / Σ weight from PyTorch's own layers and losses."""
    functional, a, n_layers = torch.nn.functional, torch.tensor(X), len(activations)
    for W, b, name in zip(parameters[:n_layers], parameters[n_layers:], activations, strict=True):
        z = a @ W + b if len(b) else a @ W
        a = torch_function(torch, name)(z)
    Y, weight = torch.tensor(Y), torch.tensor(weight)
    losses = {"mse": functional.mse_loss, "absolute_error": functional.l1_loss, "huber": functional.huber_loss}
    if loss in losses:
        E = losses[loss](a, Y, reduction="none").sum(dim=1)
    elif loss == "poisson":
        nll = functional.poisson_nll_loss(a, Y, log_input=False, eps=0, reduction="none")
        E = (nll + torch.xlogy(Y, Y) - Y).sum(dim=1)  # it leaves out what depends on Y alone
    elif activations[-1] == "softmax":
        E = functional.cross_entropy(z, Y, reduction="none")
    else:
        E = functional.binary_cross_entropy_with_logits(z, Y, reduction="none").sum(dim=1)
    return (weight * E).sum() / weight.sum()


@pytest.mark.torch
@pytest.mark.parametrize(
    ("loss", "output", "hidden", "bias", "labels"), [(*case, False) for case in CASES] + [(*CASES[0], True)]
)
def test_loss_and_gradient_equal_autograd(torch, loss, output, hidden, bias, labels):
    weights, biases = network([5, 7, 4, 3], bias)
    X, Y, weight = data(11, 5, 3, output)
    Y = Y.argmax(axis=1) if labels else Y
    activations = [hidden, hidden, output]
    parameters = torch_parameters(torch, weights, biases)
    E_torch = torch_loss(torch, parameters, activations, loss, X, Y, weight)
    E_torch.backward()
    E, dW, db = oracle.gradient(weights, biases, activations, loss, X, Y, weight)
    assert pytest.approx(E_torch.item(), rel=1e-12) == E
    whole = oracle.loss_sum(weights, biases, activations, loss, X, Y, weight) / weight.sum()
    assert whole == pytest.approx(E, rel=1e-14)
    expected = [np.zeros(p.shape) if p.grad is None else p.grad.numpy() for p in parameters]
    assert_all_close(dW + db, expected, rtol=1e-10, atol=1e-13)


DECAY, OTHER = {"weight_decay": 0.1}, {"eps": 1e-3, "weight_decay": 0.1}
BETAS, QUICK = {"betas": (0.7, 0.9)}, {"alpha": 0.8, "eps": 1e-3}
DECOUPLED = {"decoupled_weight_decay": True, **DECAY}
NESTEROV = {"momentum": 0.5, "nesterov": True}
ACCUMULATED = {"lr_decay": 0.1, "initial_accumulator_value": 0.5}
OPTIMIZERS = {
    "SGD": [{}, DECAY, {"momentum": 0.9}, NESTEROV, NESTEROV | DECAY, {"momentum": 0.9, "dampening": 0.3}],
    "Adam": [{}, BETAS | OTHER, {"betas": (0.7, 0.6), "amsgrad": True}],
    "AdamW": [{}, BETAS | OTHER],
    "RMSprop": [{}, QUICK | DECAY, QUICK | {"momentum": 0.7}, QUICK | {"centered": True},
                QUICK | {"centered": True, "momentum": 0.7}],
    "NAdam": [{}, BETAS | OTHER | {"momentum_decay": 0.1}, DECOUPLED],
    "RAdam": [{}, BETAS | OTHER, {"betas": (0.7, 0.6)}, DECOUPLED],
    "Adamax": [{}, BETAS | OTHER],
    "Adagrad": [{}, ACCUMULATED | OTHER],
    "Adadelta": [{}, {"rho": 0.8, **OTHER}],
}  # fmt: skip


@pytest.mark.torch
@pytest.mark.parametrize(("name", "options"), [(name, each) for name, every in OPTIMIZERS.items() for each in every])
def test_training_equals_torch(torch, name, options):
    """Ten epochs of five batches, the last one short, with a rate for each epoch: 50 steps."""
    X, Y, weight = data(22, 3, 4, "softmax")
    start, activations, l2 = network([3, 5, 4]), ["tanh", "softmax"], 0.05
    rates = np.geomspace(0.1, 0.01, 10)
    weights, biases, losses = oracle.train(
        *start, activations, "cross_entropy", getattr(oracle, name)(**options), X, Y,
        epochs=10, batch_size=5, learning_rates=rates, seed=7, weight=weight, l2=l2,
    )  # fmt: skip
    parameters = torch_parameters(torch, *start)
    optimizer = getattr(torch.optim, name)(parameters, **options)
    expected = []
    for epoch, lr in enumerate(rates.tolist()):
        optimizer.param_groups[0]["lr"] = lr
        total = 0.0
        for rows in np.split(oracle.sample_order(7, epoch, 22), range(5, 22, 5)):
            optimizer.zero_grad()
            E = torch_loss(torch, parameters, activations, "cross_entropy", X[rows], Y[rows], weight[rows])
            E = E + l2 / 2 * sum((W**2).sum() for W in parameters[:2]) / weight[rows].sum()
            E.backward()
            optimizer.step()
            total += E.item() * weight[rows].sum()
        expected.append(total / weight.sum())
    np.testing.assert_allclose(losses, expected, rtol=1e-11)
    assert_all_close(weights + biases, [p.detach().numpy() for p in parameters], rtol=1e-10, atol=1e-12)


@pytest.mark.torch
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_defaults_are_torch_s(torch, name):
    defaults = getattr(torch.optim, name)([torch.zeros(1)]).defaults
    ours = {{"learning_rate": "lr"}.get(key, key): value for key, value in vars(getattr(oracle, name)()).items()}
    assert {key: value for key, value in ours.items() if key not in ("step", "state")}.items() <= defaults.items()
