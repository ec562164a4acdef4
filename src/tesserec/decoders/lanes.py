"""Vectors of 64 bytes in numba: what the scan's kernels need, and no more.

`Lanes` is one LLVM vector, 32 lanes of 16 bits. LLVM cuts it to the registers of the machine: one
of AVX-512, two of AVX2, four of SSE or NEON. Only `lookup` needs a certain instruction; ask
`HAS_LOOKUP` first, since compiling it elsewhere ends the process.

Sixty-four sums of bytes fit two Lanes: `total` adds whole lanes, `odd` adds their high bytes. Both
wrap at 2^16; `odd` is then the sum of the bytes 1, 3, 5..., `total - 256 * odd` that of the others.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import extending, types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.core.registry import cpu_target

I16, I32, I64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)
SHORTS, BYTES = ir.VectorType(I16, 32), ir.VectorType(ir.IntType(8), 64)
PERMUTE = "llvm.x86.avx512.vpermi2var.qi.512"  # byte i of two registers, for 64 indices at once

# numba's own target, not the machine's: NUMBA_CPU_NAME may ask for less than the machine can
_target: Any = cpu_target.target_context
HAS_LOOKUP = "+avx512vbmi," in _target.codegen().magic_tuple()[2] + ","

intrinsic: Any = extending.intrinsic  # it takes a parameter off, which type checkers don't see


class LanesType(types.Type):
    def __init__(self) -> None:
        super().__init__(name="Lanes")


lanes = LanesType()


@extending.register_model(LanesType)
class LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, numba_type: Any) -> None:
        super().__init__(manager, numba_type, SHORTS)


def _constant(value: int) -> ir.Constant:
    return ir.Constant(SHORTS, [ir.Constant(I16, value)] * 32)


@intrinsic
def load(_: Any, address: Any) -> Any:
    """The 64 bytes at an address."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = builder.load(builder.inttoptr(args[0], SHORTS.as_pointer()))
        value.align = 1
        return value

    return lanes(types.uintp), emit


@intrinsic
def splat(_: Any, value: Any) -> Any:
    """The same 16 bits in every lane."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        nothing = ir.Constant(SHORTS, ir.Undefined)
        one = builder.insert_element(nothing, builder.trunc(args[0], I16), ir.Constant(I32, 0))
        zeros = ir.Constant(ir.VectorType(I32, 32), [ir.Constant(I32, 0)] * 32)
        return builder.shuffle_vector(one, nothing, zeros)

    return lanes(types.int64), emit


@intrinsic
def add(_: Any, a: Any, b: Any) -> Any:
    """Lane by lane, modulo 2^16."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.add(*args)

    return lanes(lanes, lanes), emit


@intrinsic
def high(_: Any, a: Any) -> Any:
    """The high byte of every lane."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.lshr(args[0], _constant(8))

    return lanes(lanes), emit


@intrinsic
def lookup(_: Any, t0: Any, t1: Any, t2: Any, t3: Any, index: Any) -> Any:
    """For 64 byte indices, the bytes of a table of 256 bytes that lies in four Lanes."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        t0, t1, t2, t3, index = (builder.bitcast(x, BYTES) for x in args)
        kind = ir.FunctionType(BYTES, [BYTES] * 3)
        permute = cgutils.get_or_insert_function(builder.module, kind, PERMUTE)
        below = builder.call(permute, [t0, index, t1])  # by the low 7 bits
        above = builder.call(permute, [t2, index, t3])
        negative = builder.icmp_signed("<", index, ir.Constant(BYTES, None))
        return builder.bitcast(builder.select(negative, above, below), SHORTS)

    return lanes(*[lanes] * 5), emit


@intrinsic
def at_least(_: Any, total: Any, odd: Any, even_limit: Any, odd_limit: Any) -> Any:
    """64 bits: whose sum is at least its limit. Limits are of bytes 0, 2, 4... and 1, 3, 5..."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        total, odd, even_limit, odd_limit = args
        even = builder.sub(total, builder.shl(odd, _constant(8)))
        even = builder.sext(builder.icmp_unsigned(">=", even, even_limit), SHORTS)
        odd = builder.sext(builder.icmp_unsigned(">=", odd, odd_limit), SHORTS)
        low, up = _constant(0x00FF), _constant(0xFF00)
        both = builder.or_(builder.and_(even, low), builder.and_(odd, up))
        bits = builder.icmp_signed("<", builder.bitcast(both, BYTES), ir.Constant(BYTES, None))
        return builder.bitcast(bits, I64)

    return types.uint64(*[lanes] * 4), emit


@intrinsic
def trailing_zeros(_: Any, bits: Any) -> Any:
    """Place of the lowest bit that is set; 64 if none is."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), emit


@intrinsic
def popcount(_: Any, bits: Any) -> Any:
    """How many bits are set."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.int64(types.uint64), emit


@intrinsic
def prefetch(_: Any, address: Any) -> Any:
    """Ask for the line of an address, which needn't be ours: nothing is read."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        where = builder.inttoptr(args[0], ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [where.type, I32, I32, I32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [where, *[ir.Constant(I32, n) for n in (0, 3, 1)]])
        return context.get_dummy_value()

    return types.none(types.uintp), emit
