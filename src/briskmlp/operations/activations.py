"""The activations: one row each, from which everything else is read.

A new activation is a row at the end of `ACTIVATIONS`, in ``kernels/operations.def`` and in Numba's table, and its
definition in ``tests/oracle.py``. One with parameters has a class here as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, ClassVar, NamedTuple

import numpy as np

from briskmlp._messages import Checked, check_choice, check_each, check_number, check_positive
from briskmlp.operations import FloatArray
from briskmlp.operations.texts import defaults_of, given_in, split, text_of, values_in

__all__ = ["CELU", "ELU", "Hardtanh", "LeakyReLU", "Softplus"]  # what briskmlp exports

SELU_SCALE, SELU_ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717


# --- activations with parameters -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Parametrised(Checked):
    """An activation with parameters, as ``hidden`` and ``output`` take it; its text says the same."""

    activation: ClassVar[str]

    def __str__(self) -> str:
        """Return the name, and in parentheses the parameters unless all have their defaults."""
        return text_of(self.activation, self)


ActivationLike = str | Parametrised  # a name, such an object, or its text


@dataclass(frozen=True)
class LeakyReLU(Parametrised):
    """z above 0, and ``negative_slope * z`` below.

    Parameters
    ----------
    negative_slope : float, >= 0
        PyTorch also takes a negative one, but then f' does not follow from f(z).

    References
    ----------
    Maas, Hannun & Ng 2013, "Rectifier nonlinearities improve neural network acoustic models"; torch.nn.LeakyReLU.

    Examples
    --------
    >>> str(LeakyReLU(0.2)), str(LeakyReLU())
    ('leaky_relu(0.2)', 'leaky_relu')
    """

    activation = "leaky_relu"
    negative_slope: float = 0.01


@dataclass(frozen=True)
class ELU(Parametrised):
    """z above 0, and ``alpha * (exp(z) - 1)`` below.

    Parameters
    ----------
    alpha : float, >= 0

    References
    ----------
    Clevert, Unterthiner & Hochreiter 2016, "Fast and accurate deep network learning by exponential linear units";
    torch.nn.ELU.

    Examples
    --------
    >>> str(ELU(0.5))
    'elu(0.5)'
    """

    activation = "elu"
    alpha: float = 1.0


@dataclass(frozen=True)
class CELU(Parametrised):
    """z above 0, and ``alpha * (exp(z / alpha) - 1)`` below: its slope has no jump, whatever alpha is.

    Parameters
    ----------
    alpha : float, > 0

    References
    ----------
    Barron 2017, "Continuously differentiable exponential linear units"; torch.nn.CELU.

    Examples
    --------
    >>> str(CELU(0.5))
    'celu(0.5)'
    """

    activation = "celu"
    bounds: ClassVar = {"alpha": check_positive}
    alpha: float = 1.0


@dataclass(frozen=True)
class Softplus(Parametrised):
    """``log(1 + exp(beta * z)) / beta``, and z where ``beta * z`` is above the threshold.

    Parameters
    ----------
    beta : float, > 0
    threshold : float, >= 16
        PyTorch also takes a smaller one, but then two z have the same f(z) and different slopes.

    References
    ----------
    Dugas et al. 2001, "Incorporating second-order functional knowledge for better option pricing"; torch.nn.Softplus.

    Examples
    --------
    >>> str(Softplus(beta=2))
    'softplus(2.0, 20.0)'
    """

    activation = "softplus"
    # exp(-16) is float32's precision
    bounds: ClassVar = {"beta": check_positive, "threshold": partial(check_number, low=16.0)}
    beta: float = 1.0
    threshold: float = 20.0


@dataclass(frozen=True)
class Hardtanh(Parametrised):
    """z between ``min_val`` and ``max_val``, and the nearer of these elsewhere.

    Parameters
    ----------
    min_val, max_val : float, min_val < max_val

    References
    ----------
    Collobert 2004, "Large scale machine learning"; torch.nn.Hardtanh.

    Examples
    --------
    >>> str(Hardtanh(0, 6))
    'hardtanh(0.0, 6.0)'
    """

    activation = "hardtanh"
    min_val: float = -1.0
    max_val: float = 1.0

    def __post_init__(self) -> None:
        check_number("max_val", self.max_val, low=check_number("min_val", self.min_val), open_low=True)


# --- the functions: f of Z, and f' of A or, where a slope is saved, of Z ---------------------------------------------


def _sigmoid(Z: FloatArray) -> FloatArray:
    e = np.exp(-np.abs(Z))  # of a negative number: never overflows
    return np.asarray(np.where(Z < 0, e, 1) / (1 + e))


def _softmax(Z: FloatArray) -> FloatArray:
    e = np.exp(Z - Z.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


def _pick(condition: Any, yes: Any, no: Any, like: FloatArray) -> FloatArray:
    """Return np.where in the dtype of ``like``: two Python numbers alone would make it float64."""
    return np.asarray(np.where(condition, yes, no), dtype=like.dtype)


def _expm1_below(Z: FloatArray) -> FloatArray:
    """Return exp(Z) - 1 where Z is below 0, and 0 above, where it might overflow."""
    return np.expm1(np.minimum(Z, 0))


def _softplus(Z: FloatArray, beta: float, threshold: float) -> FloatArray:
    x = beta * Z
    return _pick(x > threshold, Z, (np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))) / beta, Z)


def _softplus_slope(A: FloatArray, beta: float, threshold: float) -> FloatArray:
    return _pick(beta * A > threshold + math.log1p(math.exp(-threshold)), 1, -np.expm1(-beta * A), A)


def _ndtr(Z: FloatArray) -> FloatArray:
    """Return the standard normal distribution function, whose lower tail keeps its relative precision."""
    from scipy.special import ndtr  # here: not all networks need SciPy

    return np.asarray(ndtr(Z))


def _gelu_tanh_argument(Z: FloatArray) -> FloatArray:
    """Return 2u, where f is z (1 + tanh u) / 2 = z sigmoid(2u): of the latter the lower tail has no cancellation."""
    return np.asarray(2 * math.sqrt(2 / math.pi) * (Z + 0.044715 * Z * Z * Z))


def _gelu_tanh_slope(Z: FloatArray) -> FloatArray:
    Z = np.clip(Z, -50, 50)  # beyond, f' is 0 or 1, and z² might overflow
    x = _gelu_tanh_argument(Z)
    s = _sigmoid(x)
    return np.asarray(s + Z * s * _sigmoid(-x) * (2 * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * Z * Z)))


def _mish_parts(Z: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return t = tanh(softplus(Z)) = ((1 + e^Z)² - 1) / ((1 + e^Z)² + 1), and 1 - t, neither by cancellation."""
    e = np.exp(-np.abs(Z))
    below = Z < 0
    t, rest = _pick(below, e * (e + 2), 1 + 2 * e, Z), _pick(below, 2, 2 * e * e, Z)
    return t / (t + rest), rest / (t + rest)


def _mish_slope(Z: FloatArray) -> FloatArray:
    t, rest = _mish_parts(Z)
    return np.asarray(t + Z * (rest * (1 + t)) * _sigmoid(Z))


# --- the table -------------------------------------------------------------------------------------------------------


class Torch(NamedTuple):
    """What PyTorch calls an activation: its parameters have the same names there."""

    module: str | None  # the class in torch.nn
    functions: tuple[str, ...] = ()  # in torch.nn.functional, torch, or of tensors
    options: dict[str, Any] = {}  # noqa: RUF012 - arguments that tell it from others of this class or function


class Node(NamedTuple):
    """A node of an ONNX graph: an activation is a short list of them, whose last is f(Z).

    An input is "Z", the number of an earlier node of the list, a constant, or the name of a parameter; an attribute a
    constant or the name of a parameter.
    """

    operator: str
    inputs: tuple[str | int | float, ...] = ("Z",)
    attributes: dict[str, Any] = {}  # noqa: RUF012 - only read


@dataclass(frozen=True, eq=False, kw_only=True)
class Activation:
    """A row of the table. ``f`` and ``df`` take the parameters after their array, and keep its dtype."""

    name: str
    f: Callable[..., FloatArray]
    df: Callable[..., Any] | None  # None: each output depends on every Z, as softmax's
    # What backward reads: "A", of which df is a function; "slope", df(Z), which forward stores; or "exact_A": A, but
    # where it is not kept to the bit, as after dropout or in bfloat16, df(A), as f' jumps where A is constant.
    saves: str = "A"
    hidden: bool = True  # whether it may stand at a hidden layer
    homogeneous: bool = False  # f(s z) = s f(z) for s > 0: Dropout before it is the same as after
    gain: str = "glorot"  # of the initial weights: glorot, he, or lecun with variance 1/n_in
    factor: float = 1.0  # by which the gain's bound is multiplied
    kind: type[Parametrised] | None = None  # has the parameters, their defaults and their bounds
    kinks: Callable[..., tuple[float, ...]] = lambda *_: ()  # where f' jumps
    range: Callable[..., tuple[float, float]] = lambda *_: (-math.inf, math.inf)  # of f
    sklearn: str | None = None
    torch: Torch
    onnx: tuple[Node, ...]

    @property
    def parameters(self) -> dict[str, float]:
        """The names of the parameters, with their defaults."""
        return defaults_of(self.kind)


_at_0: Any = lambda *_: (0.0,)  # noqa: E731
_positive: Any = lambda *_: (0.0, math.inf)  # noqa: E731

BY_CODE = (
    Activation(
        name="sigmoid", f=_sigmoid, df=lambda A: A * (1 - A), factor=4.0, range=lambda: (0.0, 1.0), sklearn="logistic",
        torch=Torch("Sigmoid", ("sigmoid",)), onnx=(Node("Sigmoid"),),
    ),
    Activation(
        name="tanh", f=np.tanh, df=lambda A: 1 - A * A, range=lambda: (-1.0, 1.0), sklearn="tanh",
        torch=Torch("Tanh", ("tanh",)), onnx=(Node("Tanh"),),
    ),
    Activation(
        name="relu", homogeneous=True, f=lambda Z: np.maximum(Z, 0), df=lambda A: A > 0, gain="he", kinks=_at_0,
        range=_positive, sklearn="relu", torch=Torch("ReLU", ("relu",)), onnx=(Node("Relu"),),
    ),
    Activation(
        name="identity", homogeneous=True, f=lambda Z: Z, df=lambda A: 1, sklearn="identity", torch=Torch("Identity"),
        onnx=(),
    ),
    Activation(
        name="softmax", f=_softmax, df=None, hidden=False, range=lambda: (0.0, 1.0), sklearn="softmax",
        torch=Torch("Softmax", ("softmax",)), onnx=(Node("Softmax", attributes={"axis": -1}),),
    ),
    Activation(
        name="leaky_relu", homogeneous=True, gain="he", kind=LeakyReLU,
        f=lambda Z, slope: np.where(Z > 0, Z, slope * Z),
        df=lambda A, slope: _pick(A > 0, 1, slope, A), kinks=lambda slope: (0.0,) * (slope != 1),
        range=lambda slope: (-math.inf if slope else 0.0, math.inf), torch=Torch("LeakyReLU", ("leaky_relu",)),
        onnx=(Node("LeakyRelu", attributes={"alpha": "negative_slope"}),),
    ),
    Activation(
        name="exp", f=np.exp, df=lambda A: A, hidden=False, range=_positive, torch=Torch(None, ("exp",)),
        onnx=(Node("Exp"),),
    ),
    Activation(
        name="elu", gain="he", kind=ELU, f=lambda Z, alpha: np.where(Z > 0, Z, alpha * _expm1_below(Z)),
        df=lambda A, alpha: _pick(A > 0, 1, A + alpha, A), kinks=lambda alpha: (0.0,) * (alpha != 1),
        range=lambda alpha: (-alpha, math.inf), torch=Torch("ELU", ("elu",)),
        onnx=(Node("Elu", attributes={"alpha": "alpha"}),),
    ),
    Activation(
        name="selu", gain="lecun",
        f=lambda Z: np.where(Z > 0, SELU_SCALE * Z, SELU_SCALE * SELU_ALPHA * _expm1_below(Z)),
        df=lambda A: _pick(A > 0, SELU_SCALE, A + SELU_SCALE * SELU_ALPHA, A), kinks=_at_0,
        range=lambda: (-SELU_SCALE * SELU_ALPHA, math.inf), torch=Torch("SELU", ("selu",)), onnx=(Node("Selu"),),
    ),
    Activation(
        name="celu", gain="he", kind=CELU, f=lambda Z, alpha: np.where(Z > 0, Z, alpha * _expm1_below(Z / alpha)),
        df=lambda A, alpha: _pick(A > 0, 1, A / alpha + 1, A), range=lambda alpha: (-alpha, math.inf),
        torch=Torch("CELU", ("celu",)), onnx=(Node("Celu", attributes={"alpha": "alpha"}),),
    ),
    Activation(
        name="softplus", gain="he", kind=Softplus, f=_softplus, df=_softplus_slope, range=_positive,
        torch=Torch("Softplus", ("softplus",)),
        onnx=(Node("Mul", ("Z", "beta")), Node("Softplus", (0,)), Node("Div", (1, "beta"))),
    ),
    Activation(
        name="softsign", f=lambda Z: Z / (1 + np.abs(Z)), df=lambda A: np.square(1 - np.abs(A)),
        range=lambda: (-1.0, 1.0), torch=Torch("Softsign", ("softsign",)), onnx=(Node("Softsign"),),
    ),
    Activation(
        name="hardtanh", kind=Hardtanh, saves="exact_A", f=np.clip, df=lambda A, low, high: (low < A) & (high > A),
        kinks=lambda low, high: (low, high), range=lambda low, high: (low, high),
        torch=Torch("Hardtanh", ("hardtanh",)), onnx=(Node("Clip", ("Z", "min_val", "max_val")),),
    ),
    Activation(
        name="relu6", saves="exact_A", f=lambda Z: np.clip(Z, 0, 6), df=lambda A: (A > 0) & (A < 6), gain="he",
        kinks=lambda: (0.0, 6.0), range=lambda: (0.0, 6.0), torch=Torch("ReLU6", ("relu6",)),
        onnx=(Node("Clip", ("Z", 0.0, 6.0)),),
    ),
    Activation(
        name="log_sigmoid", f=lambda Z: np.minimum(Z, 0) - np.log1p(np.exp(-np.abs(Z))), df=lambda A: -np.expm1(A),
        range=lambda: (-math.inf, 0.0), torch=Torch("LogSigmoid", ("logsigmoid",)),
        onnx=(Node("Neg"), Node("Softplus", (0,)), Node("Neg", (1,))),
    ),
    Activation(
        name="gelu", saves="slope", gain="he", f=lambda Z: Z * _ndtr(Z),
        df=lambda Z: _ndtr(Z) + Z * np.exp(-Z * Z / 2) * (1 / math.sqrt(2 * math.pi)),
        range=lambda: (-0.17, math.inf), torch=Torch("GELU", ("gelu",), {"approximate": "none"}),
        onnx=(Node("Mul", ("Z", math.sqrt(0.5))), Node("Erf", (0,)), Node("Add", (1, 1.0)), Node("Mul", ("Z", 2)),
              Node("Mul", (3, 0.5))),
    ),
    Activation(
        name="gelu_tanh", saves="slope", gain="he", f=lambda Z: Z * _sigmoid(_gelu_tanh_argument(Z)),
        df=_gelu_tanh_slope, range=lambda: (-0.171, math.inf), torch=Torch("GELU", ("gelu",), {"approximate": "tanh"}),
        onnx=(Node("Mul", ("Z", "Z")), Node("Mul", (0, 2 * 0.044715 * math.sqrt(2 / math.pi))),
              Node("Add", (1, 2 * math.sqrt(2 / math.pi))), Node("Mul", (2, "Z")), Node("Sigmoid", (3,)),
              Node("Mul", (4, "Z"))),
    ),
    Activation(
        name="silu", saves="slope", gain="he", f=lambda Z: Z * _sigmoid(Z),
        df=lambda Z: _sigmoid(Z) * (1 + Z * _sigmoid(-Z)), range=lambda: (-0.279, math.inf),
        torch=Torch("SiLU", ("silu",)), onnx=(Node("Sigmoid"), Node("Mul", ("Z", 0))),
    ),
    Activation(
        name="mish", saves="slope", gain="he", f=lambda Z: Z * _mish_parts(Z)[0], df=_mish_slope,
        range=lambda: (-0.309, math.inf), torch=Torch("Mish", ("mish",)),
        onnx=(Node("Softplus"), Node("Tanh", (0,)), Node("Mul", ("Z", 1))),
    ),
    Activation(
        name="hardswish", saves="slope", gain="he", f=lambda Z: Z * np.clip(Z + 3, 0, 6) / 6,
        df=lambda Z: _pick(Z <= -3, 0, _pick(Z < 3, Z / 3 + 0.5, 1, Z), Z), kinks=lambda: (-3.0, 3.0),
        range=lambda: (-0.375, math.inf), torch=Torch("Hardswish", ("hardswish",)),
        onnx=(Node("Add", ("Z", 3.0)), Node("Clip", (0, 0.0, 6.0)), Node("Mul", ("Z", 1)), Node("Div", (2, 6.0))),
    ),
)  # fmt: skip

ACTIVATIONS = {row.name: row for row in BY_CODE}
CODES = {name: code for code, name in enumerate(ACTIVATIONS)}
HIDDEN = tuple(name for name, row in ACTIVATIONS.items() if row.hidden)
MAX_PARAMETERS = 2  # that a layer's row in a Plan has room for


# --- how a user says which one ---------------------------------------------------------------------------------------


class Choice(NamedTuple):
    """A row, and the values of its parameters."""

    row: Activation
    values: tuple[float, ...]

    def f(self, Z: FloatArray) -> FloatArray:
        """Return f(Z)."""
        return self.row.f(Z, *self.values)

    def slope(self, Z: FloatArray) -> FloatArray | None:
        """Return f'(Z) if forward saves it."""
        if self.row.df is None or self.row.saves == "A":
            return None
        return np.asarray(self.row.df(Z if self.row.saves == "slope" else self.f(Z), *self.values))

    def through(self, dA: FloatArray, saved: FloatArray) -> FloatArray:
        """Return dA * f'(Z); what is saved is A, or the slope."""
        if self.row.df is None:  # softmax: the product with its Jacobian
            return np.asarray(saved * (dA - (dA * saved).sum(axis=1, keepdims=True)))
        return np.asarray(dA * (self.row.df(saved, *self.values) if self.row.saves == "A" else saved))


def check_activation(argument: str, value: Any, names: Sequence[str] = tuple(ACTIVATIONS)) -> str:
    """Return the text of an activation, which is its name alone where all its parameters have their defaults.

    The value of the argument is one of the names, one with parameters such as ``"softplus(beta=2)"``, or an object.

    Examples
    --------
    >>> check_activation("hidden", LeakyReLU(0.2)), check_activation("hidden", "elu(alpha=1)")
    ('leaky_relu(0.2)', 'elu')
    """
    if isinstance(value, Parametrised):
        value = str(value)
    named, inside = split(value)
    name = check_choice(argument, named, names)
    row = ACTIVATIONS[_FROM_SKLEARN.get(name, name)]
    given = given_in(argument, value, name, inside, row.parameters)
    try:
        return name if row.kind is None else str(row.kind(**given))
    except ValueError as error:
        raise ValueError(f"{argument} is {value!r}: {error}") from None


_FROM_SKLEARN = {row.sklearn: row.name for row in BY_CODE if row.sklearn}
IN_ESTIMATORS = tuple(row.sklearn or row.name for row in BY_CODE if row.hidden)  # the hidden ones, by their names there


def of_estimator(activation: Any, output: str, n_hidden: int) -> list[str]:
    """Return the texts of the activations that an estimator's parameters name, the output's last.

    The activation is one for all hidden layers or a sequence of them, by scikit-learn's names where it has any; the
    output, the estimator's ``out_activation_``.

    Examples
    --------
    >>> of_estimator(["logistic", ELU(0.3)], "softmax", 2)
    ['sigmoid', 'elu(0.3)', 'softmax']
    """
    texts = check_each("activation", activation, n_hidden, partial(check_activation, names=IN_ESTIMATORS))
    return [_FROM_SKLEARN.get(text, text) for text in (*texts, output)]


@cache
def chosen(text: str) -> Choice:
    """Return the row that a checked text names, and its parameters.

    Examples
    --------
    >>> chosen("leaky_relu(0.2)").values, chosen("softplus").values, chosen("tanh").values
    ((0.2,), (1.0, 20.0), ())
    """
    row = ACTIVATIONS[text.partition("(")[0]]
    return Choice(row, values_in(text, row.parameters))
