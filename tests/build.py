"""What tests of backends are made of: a network, its plan, parameters and data, and the oracle's view of them."""

import functools
import itertools
import pickle
from dataclasses import dataclass, replace

import numpy as np
import oracle
import pytest

from briskmlp.backends.contract import Examples, Position, State, Steps
from briskmlp.network import Network
from briskmlp.operations.activations import ACTIVATIONS, HIDDEN, chosen
from briskmlp.operations.losses import LOSSES
from briskmlp.operations.rules import BY_CODE, Lowered
from briskmlp.optimizers import SGD, Adadelta, Adagrad, Adam, Adamax, AdamW, NAdam, RAdam, RMSprop
from briskmlp.plan import make_plan


def _with_variant(name):
    """Return the name and, if the activation has parameters, a text in which each is half as large again."""
    defaults = ACTIVATIONS[name].parameters.values()
    return [name, f"{name}({', '.join(str(1.5 * value) for value in defaults)})"] if defaults else [name]


TEXTS = [text for name in HIDDEN for text in _with_variant(name)]  # of hidden layers
# every (loss, output) that can be trained
PAIRS = [(loss, text) for loss, row in LOSSES.items() for output in row.outputs for text in _with_variant(output)]
# each of them with three pairs of (hidden activation, bias); over all of them each kind of bias has each hidden one
COVERING = {
    (loss, output): [(TEXTS[(i + 7 * j) % len(TEXTS)], bias) for j, bias in enumerate(("neuron", "layer", "none"))]
    for i, (loss, output) in enumerate(PAIRS)
}
# each pair once, with one hidden activation and one kind of bias
BRIEF = [(*pair, *COVERING[pair][i % 3]) for i, pair in enumerate(COVERING)]


def runnable(backend):
    """Return the pairs that a backend can train."""
    plans = {
        (loss, output): make_plan(
            Network([1, 2], output=output), loss=loss, optimizer=SGD(), batch_size=1, l2=0.0, shuffle=False, seed=0
        )
        for loss, output in PAIRS
    }
    return [pair for pair, plan in plans.items() if backend.unsupported(plan, np.dtype("float64")) is None]


def remembered(function):
    """Keep what a function of a case returns: cases are built alike for each backend, and the oracle is slow."""
    known = {}

    @functools.wraps(function)
    def answer(*arguments):
        key = pickle.dumps(arguments)
        if key not in known:
            known[key] = function(*arguments)
        return known[key]

    return answer


@dataclass
class Case:
    """A network with data; calls of a backend on it, and the same calls of the oracle."""

    network: Network
    plan: tuple
    optimizer: object
    params: np.ndarray
    X: np.ndarray
    Y: np.ndarray
    weight: np.ndarray | None
    loss: str
    l2: float
    statistics: np.ndarray = None  # running means and variances; None for the initial ones

    @property
    def n(self):
        return len(self.X)

    @property
    def rows(self):
        return np.arange(self.n)

    @property
    def dtype(self):
        return self.params.dtype

    @property
    def examples(self):
        return Examples(self.X, self.Y, self.weight)

    def slots(self):
        return self.start().slots

    def needs(self, backend):
        """Skip the test if the backend has not what the plan asks for; return the case."""
        if reason := backend.unsupported(self.plan, self.dtype):
            pytest.skip(f"{backend.NAME}: {reason}")
        return self

    def start(self, params=None, counts=(0, 0, 0)):
        """Return the state of a training from these parameters, which it moves; default: a copy of the case's."""
        state = State.initial(self.plan, self.dtype)
        if self.statistics is not None:
            state.statistics[:] = self.statistics
        return replace(
            state, parameters=self.params.copy() if params is None else params, position=Position(np.array(counts))
        )

    def forward(self, backend, rows=None, work=None):
        rows = self.rows if rows is None else rows
        out = np.full((len(rows), self.network.n_out), np.nan, self.dtype)
        work = backend.workspace(self.plan, self.dtype, len(rows), training=False) if work is None else work
        backend.forward(work, self.start(self.params), self.X, rows, out)
        return out

    def gradient(self, backend, rows=None, scale=1.0, work=None):
        """Return (loss, grad), both un-normalised, grad from zero."""
        rows, grad = self.rows if rows is None else rows, np.zeros_like(self.params)
        work = backend.workspace(self.plan, self.dtype, max(self.n, len(rows))) if work is None else work
        loss = backend.gradient(work, self.start(self.params), self.examples, rows, scale, grad)
        return loss, grad

    def train(self, backend, rates, *, steps=10**6, order=None):
        """Return (params, slots, losses) of training from scratch, cut into calls of ``steps``.

        ``order`` "given" passes each epoch's permutation; "fresh" takes a new workspace for every call.
        """
        state = self.start()
        losses, rates, work = np.full(len(rates), np.nan), np.asarray(rates, float), None
        while (done := state.position.epoch) < len(rates):
            if work is None or order == "fresh":
                work = backend.workspace(self.plan, self.dtype, self.n)
            given = oracle.sample_order(self.plan.seed % 2**64, done, self.n) if order == "given" else None
            assert backend.train(work, state, self.examples, Steps(rates[done:], losses[done:], steps, given)) is None
        return state.parameters, state.slots, losses

    # --- the oracle's view -------------------------------------------------------------------------------------------

    def tensors(self, flat):
        """Return ([W …], [b …]) of a flat buffer as float64 copies."""
        return [
            [np.array(part, float) for part in parts(flat)] for parts in (self.network.weights, self.network.biases)
        ]

    def flat(self, weights, biases, gammas=(), betas=()):
        pairs = [*zip(weights, biases, strict=True), *zip(gammas, betas, strict=True)]
        return np.concatenate([part.ravel() for pair in pairs for part in pair])

    def norms(self):
        """Return the oracle's normalisations, copies."""
        flat, running = np.array(self.params, float), iter(self.network.split_statistics(self.start().statistics))
        affine = zip(self.network.norms, self.network.gammas(flat), self.network.betas(flat), strict=True)
        norms = []
        for norm, gamma, beta in affine:
            mean, variance = (np.array(a, float) for a in (next(running) if norm.row.statistics else (0, 1)))
            values = {**norm.values, "gamma": gamma, "beta": beta, "mean": mean, "variance": variance}
            fixed = bool(self.plan.norm_fixed[norm.place])
            norms.append(
                oracle.Norm(kind=norm.row.name, place=norm.place, position=norm.position, fixed=fixed, **values)
            )
        return norms

    @remembered
    def oracle_gradient(self, rows=None):
        """Return (loss, grad), both un-normalised."""
        rows = self.rows if rows is None else rows
        weight = np.ones(len(rows)) if self.weight is None else self.weight[rows].astype(float)
        E, *grads = oracle.gradient(
            *self.tensors(self.params), self.network.activations, self.loss, self.X[rows], self.Y[rows], weight,
            self.l2, loss_scale=self.plan.loss_scale, report_scale=self.plan.report_scale, norms=self.norms(),
        )  # fmt: skip
        return E * weight.sum(), self.flat(*grads) * weight.sum()

    @remembered
    def oracle_train(self, rates):
        """Return (params, losses), and with normalisations over batches their running statistics."""
        plan, norms = self.plan, self.norms()
        weights, biases, losses = oracle.train(
            *self.tensors(self.params), self.network.activations, self.loss, oracle_optimizer(self.optimizer, plan),
            self.X, self.Y, epochs=len(rates), batch_size=plan.batch_size, learning_rates=rates,
            seed=plan.seed % 2**64, shuffle=bool(plan.shuffle), weight=self.weight, l2=self.l2,
            dropout=plan.dropout[:-1], clip_norm=plan.clip_norm, report_rows=bool(plan.report_rows),
            loss_scale=plan.loss_scale, report_scale=plan.report_scale, norms=norms,
        )  # fmt: skip
        params = self.flat(weights, biases, [norm.gamma for norm in norms], [norm.beta for norm in norms])
        running = [part for norm in norms if norm.kind == "batch" for part in (norm.mean, norm.variance)]
        return (params, np.array(losses), np.concatenate(running)) if running else (params, np.array(losses))


def assert_trains_as_oracle(case, backend, rates):
    case.needs(backend)
    params, _, losses = case.train(backend, rates)
    expected, expected_losses = case.oracle_train(rates)
    # float32: 50 steps move weights of order 1 by rates below 0.1; what each rounds is some 100 u
    tolerance = 1e-10 if case.dtype == "float64" else 50 * 0.1 * 200 * np.finfo(case.dtype).eps
    assert np.linalg.norm(params - expected) <= tolerance * np.linalg.norm(expected)
    np.testing.assert_allclose(losses, expected_losses, rtol=tolerance)


def assert_bits_wherever_calls_are_cut(case, backend, rates):
    expected = case.needs(backend).train(backend, rates)
    given = ("given",) if case.plan.shuffle else ()
    for steps, order in itertools.product((1, 2, 3, 7, 10**6), (None, "fresh", *given)):
        for got, wanted in zip(case.train(backend, rates, steps=steps, order=order), expected, strict=True):
            assert got.tobytes() == wanted.tobytes(), (steps, order)


def build(
    layers, *, hidden="tanh", output="identity", loss="mse", bias="neuron", dtype="float64", n=20, batch_size=5,
    labels=False, weighted=False, l2=0.0, optimizer=None, shuffle=True, seed=0, norms=None, **form,
):  # fmt: skip
    """Return a Case of random numbers whose Z are of order 1, and away from kinks by 1e-4 where n allows.

    ``form`` replaces fields of the plan; ``dropout`` has a rate for each hidden layer. ``norms`` are the arguments of
    Network that say which there are.
    """
    network, optimizer = Network(layers, hidden, output, bias, **(norms or {})), optimizer or SGD(0.1)
    plan = make_plan(
        network, loss=loss, optimizer=optimizer, batch_size=batch_size, l2=l2, shuffle=shuffle, seed=seed
    )  # fmt: skip
    if "dropout" in form:
        form["dropout"] = np.array([*form["dropout"], 0.0])
    plan = plan._replace(**form)
    for attempt in range(50):
        rng = np.random.default_rng([seed, n, attempt, *layers])
        params = rng.normal(size=network.n_parameters)
        for W in network.weights(params):
            W /= np.sqrt(len(W))
        statistics = network.initial_statistics("float64") + rng.uniform(0.1, 0.5, network.n_statistics)
        X = rng.normal(size=(n, network.n_in))
        if loss in ("mse", "absolute_error", "huber"):
            Y = rng.normal(size=(n, network.n_out))
        elif loss == "poisson":
            Y = rng.poisson(1.5, size=(n, network.n_out)).astype(float)
        elif output == "sigmoid":
            Y = rng.uniform(size=(n, network.n_out))
        else:
            Y = rng.dirichlet(np.ones(network.n_out), size=n)
        if labels:
            Y = rng.integers(network.n_out, size=n)
        weight = rng.uniform(0.5, 2.0, size=n) if weighted else None
        case = Case(network, plan, optimizer, *(_cast(a, dtype) for a in (params, X, Y, weight)), loss, l2)
        case.statistics = _cast(statistics, dtype) if statistics.size else None
        if attempt == 49 or _kink_distance(case) > 1e-4:
            return case
    raise AssertionError


def _cast(array, dtype):
    return array if array is None or array.dtype.kind == "i" else array.astype(dtype)


def _kink_distance(case):
    """Return how far the nearest Z of a relu, and error of a loss, is from where a derivative jumps."""
    weights, biases = case.tensors(case.params)
    A, sums = oracle._forward(weights, biases, case.network.activations, case.X, None, case.norms(), True)[:2]
    distances = []
    for l, Z in enumerate(sums):
        choice = chosen(case.network.activations[l])
        distances += [np.abs(Z - kink) for kink in choice.row.kinks(*choice.values)]
    if case.loss in ("absolute_error", "huber"):
        size = np.abs(A[-1] - case.Y)
        distances.append(size if case.loss == "absolute_error" else np.abs(size - 1.0))
    return min((distance.min() for distance in distances), default=np.inf)


def oracle_optimizer(optimizer, plan=None):
    """Return the oracle's optimizer with the same hyperparameters, in the form that the plan wants."""
    values = {{"epsilon": "eps"}.get(name, name): value for name, value in vars(optimizer).items()}
    del values["learning_rate"]
    if "beta1" in values:
        values["betas"] = values.pop("beta1"), values.pop("beta2")
    name = type(optimizer).__name__
    rule = None if plan is None else BY_CODE[plan.rule].name
    if rule == "velocity":
        name = "RatedSGD"
    if rule == "adam" and plan.hyper[3]:
        name = "RawAdam"
    return getattr(oracle, name)(**values)


def sklearn_form(optimizer):
    """Return the fields of a Plan for scikit-learn's form of SGD with momentum or of Adam."""
    if isinstance(optimizer, SGD):
        return Lowered("velocity", (optimizer.momentum, optimizer.nesterov)).plan_fields()
    return Lowered("adam", (optimizer.beta1, optimizer.beta2, optimizer.epsilon, 1.0)).plan_fields()


_OTHERS = {"weight_decay": 0.02, "epsilon": 1e-6}
OPTIMIZERS = {
    "sgd": SGD(0.1),
    "sgd-decay": SGD(0.1, weight_decay=0.02),
    "momentum": SGD(0.05, momentum=0.9),
    "momentum-decay": SGD(0.05, momentum=0.8, weight_decay=0.02),
    "nesterov": SGD(0.05, momentum=0.9, nesterov=True),
    "nesterov-decay": SGD(0.05, momentum=0.7, nesterov=True, weight_decay=0.02),
    "adam": Adam(0.01),
    "adam-decay": Adam(0.02, beta1=0.8, beta2=0.99, **_OTHERS),
    "adamw": AdamW(0.01, weight_decay=0.1),
    "rmsprop": RMSprop(0.01),
    "rmsprop-decay": RMSprop(0.01, alpha=0.9, **_OTHERS),
    "dampening": SGD(0.05, momentum=0.9, dampening=0.4, weight_decay=0.02),
    "amsgrad": Adam(0.01, beta1=0.8, beta2=0.7, amsgrad=True, **_OTHERS),
    "amsgradw": AdamW(0.01, weight_decay=0.1, amsgrad=True),
    "nadam": NAdam(0.01),
    "nadam-decay": NAdam(0.01, beta1=0.8, beta2=0.99, momentum_decay=0.1, **_OTHERS),
    "nadamw": NAdam(0.01, decoupled_weight_decay=True, weight_decay=0.1),
    "radam": RAdam(0.01),
    "radam-decay": RAdam(0.01, beta1=0.8, beta2=0.9, **_OTHERS),
    "radamw": RAdam(0.01, beta2=0.9, decoupled_weight_decay=True, weight_decay=0.1),
    "adamax": Adamax(0.01),
    "adamax-decay": Adamax(0.01, beta1=0.8, beta2=0.9, **_OTHERS),
    "adagrad": Adagrad(0.05),
    "adagrad-decay": Adagrad(0.05, lr_decay=0.1, initial_accumulator_value=0.3, **_OTHERS),
    "adadelta": Adadelta(1.0),
    "adadelta-decay": Adadelta(0.5, rho=0.8, weight_decay=0.02, epsilon=1e-4),
    "rmsprop-momentum": RMSprop(0.01, alpha=0.9, momentum=0.8, **_OTHERS),
    "rmsprop-centered": RMSprop(0.01, alpha=0.9, centered=True, **_OTHERS),
    "rmsprop-both": RMSprop(0.01, alpha=0.9, centered=True, momentum=0.8, **_OTHERS),
}


# --- guard zones -----------------------------------------------------------------------------------------------------


class Guards:
    """Puts arrays into larger ones full of NaN, and tells whether anything around them was written."""

    MARGIN = 67  # numbers before and after: more than a Vec or a tile's row; odd, so that nothing is aligned

    def __init__(self):
        self.taken = []

    def __call__(self, array, *, row_gap=0):
        """Return the array with poison around it, and after each row of a 2-D one if there is a gap."""
        array = np.asarray(array)
        poison = np.nan if array.dtype.kind == "f" else np.iinfo(array.dtype).min // 3
        shape = (*array.shape[:-1], array.shape[-1] + row_gap) if array.ndim else ()
        size, margin = int(np.prod(shape)), self.MARGIN
        outer = np.full(size + 2 * margin, poison, array.dtype)
        inner = outer[margin : margin + size].reshape(shape)[..., : array.shape[-1]]
        outside = np.ones(outer.size, bool)
        outside[margin : margin + size].reshape(shape)[..., : array.shape[-1]] = False
        inner[...] = array
        self.taken.append((outer, outside, outer[outside].tobytes()))
        return inner

    def intact(self):
        return all(outer[outside].tobytes() == before for outer, outside, before in self.taken)


def guarded(case, guards, row_gap=3):
    """Return the case with poison around every array."""
    arrays = {name: guards(getattr(case, name)) for name in ("params", "Y")}
    arrays["weight"] = None if case.weight is None else guards(case.weight)
    return replace(case, X=guards(case.X, row_gap=row_gap), **arrays)
