"""Explicit SIMD for Numba kernels: a ``Vec`` is as many numbers as a register holds.

Numba's auto-vectoriser gives up on short and ragged rows, so the matrix product and the activations say what they
want: each function here lowers to the LLVM instruction of its name. The same product written as plain loops runs at
a third of the speed at best, and at a tenth on small layers (bench/bench_product.py).
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic, models, overload, register_model

# What Numba compiles for, NUMBA_CPU_NAME and NUMBA_CPU_FEATURES included.
_FEATURES = cpu_target.target_context.codegen().magic_tuple()[2].split(",")
WIDE = "+avx512f" in _FEATURES  # 32 registers of 64 bytes; otherwise count on 16 of 32
VECTOR_BYTES = 64 if WIDE else 32

_LLVM = {types.float32: ir.FloatType(), types.float64: ir.DoubleType()}
_SUFFIX = {types.float32: "f32", types.float64: "f64"}
_I32 = ir.IntType(32)


class VecType(types.Type):  # type: ignore[misc] # Numba is untyped here
    """The Numba type of a Vec of one dtype."""

    def __init__(self, dtype: types.Float) -> None:
        self.dtype = dtype
        self.lanes = VECTOR_BYTES * 8 // dtype.bitwidth
        self.llvm = ir.VectorType(_LLVM[dtype], self.lanes)
        super().__init__(name=f"Vec({dtype} x {self.lanes})")


@register_model(VecType)
class _VecModel(models.PrimitiveModel):  # type: ignore[misc] # as above
    def __init__(self, dmm: Any, fe_type: VecType) -> None:
        super().__init__(dmm, fe_type, fe_type.llvm)


def lanes(dtype: np.dtype[Any]) -> int:
    """Return how many numbers of a dtype a Vec holds."""
    return VECTOR_BYTES // dtype.itemsize


# Each intrinsic returns its signature, and what generates it from (context, builder, signature, arguments).


@intrinsic
def width(typing: Any, p: Any) -> Any:
    """Return the lanes of a Vec of what ``p`` points to, as a constant."""
    count = VecType(p.dtype).lanes
    return types.intp(p), lambda context, *_: context.get_constant(types.intp, count)


# --- memory ----------------------------------------------------------------------------------------------------------


# Kernels hold arrays as pointers: an array that is passed on costs two atomic operations for its reference count,
# which added up to 0.9 µs a step.


@intrinsic
def pointer(typing: Any, array: Any) -> Any:
    """Return the address of an array's first number; the caller keeps the array alive."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(array)(context, builder, arguments[0]).data
        return builder.bitcast(data, context.get_value_type(signature.return_type))

    return types.CPointer(array.dtype)(array), generate


@intrinsic
def offset(typing: Any, p: Any, n: Any) -> Any:
    """Return the address n numbers on."""
    return p(p, types.intp), lambda _, builder, __, arguments: builder.gep(arguments[0], [arguments[1]])


def address(builder: Any, vec: VecType, p: Any, index: Any) -> Any:
    """Return the address of a Vec, ``index`` numbers after p."""
    return builder.bitcast(builder.gep(p, [index]), vec.llvm.as_pointer())


@intrinsic
def load(typing: Any, p: Any, index: Any) -> Any:
    """Return ``p[index:index + lanes]``; the caller keeps it in bounds, here and below."""
    vec, align = VecType(p.dtype), p.dtype.bitwidth // 8
    return vec(p, types.intp), lambda _, builder, __, xs: builder.load(address(builder, vec, *xs), align=align)


@intrinsic
def store(typing: Any, p: Any, index: Any, x: Any) -> Any:
    """Write ``p[index:index + lanes]``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> None:
        builder.store(arguments[2], address(builder, x, *arguments[:2]), align=p.dtype.bitwidth // 8)

    return types.void(p, types.intp, x), generate


@intrinsic
def number(typing: Any, p: Any, value: Any) -> Any:
    """Return ``value`` cast to the dtype that ``p`` points to."""
    return p.dtype(p, value), lambda context, builder, _, xs: context.cast(builder, xs[1], value, p.dtype)


@intrinsic
def splat(typing: Any, x: Any, value: Any) -> Any:
    """Return ``value``, cast to the dtype of the Vec or pointer ``x``, in every lane."""
    vec = VecType(x.dtype)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return spread(builder, context.cast(builder, arguments[1], value, x.dtype), vec.lanes)

    return vec(x, value), generate


def spread(builder: Any, scalar: Any, count: int) -> Any:
    """Return an LLVM vector of so many of one value."""
    undefined = ir.Constant(ir.VectorType(scalar.type, count), ir.Undefined)
    first = builder.insert_element(undefined, scalar, _I32(0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(_I32, count), [0] * count))


# --- arithmetic ------------------------------------------------------------------------------------------------------


def _binary(operation: Callable[[Any, Any], Any], method: str) -> None:
    """Define an arithmetic operator between two Vecs."""

    @intrinsic
    def apply(typing: Any, x: Any, y: Any) -> Any:
        return x(x, y), lambda _, builder, __, arguments: getattr(builder, method)(*arguments)

    @overload(operation, strict=False)
    def _operator(x: Any, y: Any) -> Any:
        if isinstance(x, VecType) and x == y:
            return lambda x, y: apply(x, y)  # noqa: PLW0108 - Numba compiles a lambda, not an intrinsic
        return None


_binary(operator.add, "fadd")
_binary(operator.sub, "fsub")
_binary(operator.mul, "fmul")
_binary(operator.truediv, "fdiv")


def call(name: str, vec: VecType) -> Any:
    """Return what generates the LLVM intrinsic of this name."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(vec.llvm, [vec.llvm] * len(arguments))
        full_name = f"llvm.{name}.v{vec.lanes}{_SUFFIX[vec.dtype]}"
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, full_name), arguments)

    return generate


@intrinsic
def fma(typing: Any, x: Any, y: Any, z: Any) -> Any:
    """Return x * y + z, rounded once."""
    return x(x, y, z), call("fma", x)


@intrinsic
def absolute(typing: Any, x: Any) -> Any:
    """Return abs(x)."""
    return x(x), call("fabs", x)


@intrinsic
def copysign(typing: Any, x: Any, sign: Any) -> Any:
    """Return abs(x) with the sign of ``sign``."""
    return x(x, sign), call("copysign", x)


@intrinsic
def power_of_two(typing: Any, shifted: Any) -> Any:
    """Return 2**n for ``shifted = n + 1.5 * 2**fraction_bits``, whose lowest bits hold n; 0 for n = -bias."""
    bits, fraction, bias = (32, 23, 127) if shifted.dtype == types.float32 else (64, 52, 1023)
    integers = ir.VectorType(ir.IntType(bits), shifted.lanes)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        exponent = builder.shl(builder.bitcast(arguments[0], integers), integers([fraction] * shifted.lanes))
        return builder.bitcast(builder.add(exponent, integers([bias << fraction] * shifted.lanes)), shifted.llvm)

    return shifted(shifted), generate


# --- choice ----------------------------------------------------------------------------------------------------------


@intrinsic
def where_less(typing: Any, x: Any, y: Any, yes: Any, no: Any) -> Any:
    """Return, lane by lane, ``yes`` where x < y, else ``no``; NaN is not less."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.select(builder.fcmp_ordered("<", *arguments[:2]), *arguments[2:])

    return x(x, y, yes, no), generate


@intrinsic
def first(typing: Any, x: Any, n: Any, other: Any) -> Any:
    """Return the first ``n`` < 2**31 lanes of x, and the scalar ``other`` in the rest."""
    lane = ir.VectorType(_I32, x.lanes)(list(range(x.lanes)))

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        inside = builder.icmp_signed("<", lane, spread(builder, builder.trunc(arguments[1], _I32), x.lanes))
        rest = spread(builder, context.cast(builder, arguments[2], other, x.dtype), x.lanes)
        return builder.select(inside, arguments[0], rest)

    return x(x, types.int64, other), generate


# --- reductions, as a tree whose shape is fixed ----------------------------------------------------------------------


def _halve(builder: Any, vector: Any, combine: Callable[[Any, Any], Any]) -> Any:
    count = vector.type.count
    while count > 1:
        count //= 2
        half, undefined = ir.VectorType(_I32, count), ir.Constant(vector.type, ir.Undefined)
        low = builder.shuffle_vector(vector, undefined, half(list(range(count))))
        high = builder.shuffle_vector(vector, undefined, half(list(range(count, 2 * count))))
        vector = combine(low, high)
    return builder.extract_element(vector, _I32(0))


@intrinsic
def total(typing: Any, x: Any) -> Any:
    """Return the sum of all lanes."""
    return x.dtype(x), lambda _, builder, __, arguments: _halve(builder, arguments[0], builder.fadd)


@intrinsic
def largest(typing: Any, x: Any) -> Any:
    """Return the largest lane."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def larger(low: Any, high: Any) -> Any:
            return builder.select(builder.fcmp_ordered(">", low, high), low, high)

        return _halve(builder, arguments[0], larger)

    return x.dtype(x), generate
