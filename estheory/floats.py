"""Binary floating-point storage formats and exact rounding to them, in numpy alone.

Values are carried in float32, which holds every value of the formats here; arithmetic of a narrow format is float32
arithmetic whose result is rounded, which is how torch computes it (tested bit by bit against torch).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class FloatFormat:
    """A binary storage format.

    Attributes
    ----------
    name
        torch's name of it.
    bits
        Stored significand bits (the leading one not counted).
    smallest
        Exponent of the smallest normal number; below 2^smallest the grid is that of the subnormals.
    largest
        The largest finite value.
    """

    name: str
    bits: int
    smallest: int
    largest: float

    def spacing(self, exponents: NDArray[Any]) -> NDArray[np.float64]:
        """Return the distance of neighbouring numbers in some binades.

        Examples
        --------
        >>> float(FORMATS["bfloat16"].spacing(np.array(-6.0))) * 2**13
        1.0
        """
        return np.asarray(2.0 ** (np.maximum(exponents, self.smallest) - self.bits), dtype=np.float64)


FORMATS = {
    item.name: item
    for item in (
        FloatFormat(name="bfloat16", bits=7, smallest=-126, largest=(2 - 2.0**-7) * 2.0**127),
        FloatFormat(name="float16", bits=10, smallest=-14, largest=65504.0),
        FloatFormat(name="float8_e4m3fn", bits=3, smallest=-6, largest=448.0),
        FloatFormat(name="float8_e5m2", bits=2, smallest=-14, largest=57344.0),
    )
}
"""bfloat16 and float16, and the two 8-bit formats of torch (for the closed forms)."""
_CODES = {"BF16": "bfloat16", "F16": "float16"}


def coarser_format(base: str, stored: str) -> FloatFormat | None:
    """Return the 16-bit format of a tensor that cannot hold every value of its base's; None if it can.

    `base`, `stored`: element types as safetensors calls them, such as F32 and BF16.

    Examples
    --------
    >>> coarser_format("F32", "BF16").name, coarser_format("BF16", "F32")
    ('bfloat16', None)
    """
    return FORMATS[_CODES[stored]] if stored in _CODES and stored != base else None


def round_in_place(values: Float32, to: FloatFormat, scratch: NDArray[np.uint32]) -> Float32:
    """Round float32 ``values`` to the nearest value of a format, ties to even, in place.

    `to`: bfloat16 or float16. Overflow becomes infinity, as in torch; NaN is not expected.
    """
    if to.smallest == -126:  # float32's own exponents: drop the low bits
        return _drop_bits(values, 23 - to.bits, scratch)
    # below the smallest normal the spacing is constant: adding 1.5 * 2^23 spacings makes float32's addition round to it
    magic = np.float32(1.5 * 2.0 ** (23 + to.smallest - to.bits))
    small = np.abs(values) < 2.0**to.smallest
    subnormal = np.copysign((values[small] + magic) - magic, values[small])
    _drop_bits(values, 23 - to.bits, scratch)
    values[small] = subnormal
    large = np.abs(values) > to.largest
    if large.any():
        values[large] = np.copysign(np.float32(np.inf), values[large])
    return values


def _drop_bits(values: Float32, shift: int, scratch: NDArray[np.uint32]) -> Float32:
    bits = values.view(np.uint32)
    np.right_shift(bits, shift, out=scratch)
    np.bitwise_and(scratch, 1, out=scratch)
    np.add(bits, scratch, out=bits)
    np.add(bits, np.uint32((1 << (shift - 1)) - 1), out=bits)
    np.bitwise_and(bits, np.uint32(0xFFFFFFFF >> shift << shift), out=bits)
    return values


def rounded(values: NDArray[Any], to: FloatFormat) -> Float32:
    """Return values rounded to a format; see :func:`round_in_place`.

    Examples
    --------
    >>> [float(v) for v in rounded(np.array([1.003, 1.005]), FORMATS["bfloat16"])]
    [1.0, 1.0078125]
    """
    copy = np.array(values, dtype=np.float32, order="C")
    return round_in_place(copy, to, np.empty(copy.shape, dtype=np.uint32))


def magnitude_codes(values: NDArray[Any], to: FloatFormat) -> NDArray[np.uint16]:
    """Return |w| as its 15-bit code in a 16-bit format: a number's place among the format's magnitudes."""
    stored = np.abs(rounded(values, to))
    if to.name == "float16":
        return stored.astype(np.float16).view(np.uint16)
    return (stored.view(np.uint32) >> 16).astype(np.uint16)


def from_magnitude_codes(codes: NDArray[Any], to: FloatFormat) -> Float32:
    """Return the magnitudes that :func:`magnitude_codes` gave codes to."""
    if to.name == "float16":
        return np.asarray(codes, dtype=np.uint16).view(np.float16).astype(np.float32)
    return (np.asarray(codes, dtype=np.uint32) << np.uint32(16)).view(np.float32)
