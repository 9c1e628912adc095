"""Rounding to storage formats against torch, every pattern that matters."""

import numpy as np
import pytest

from estheory.floats import FORMATS, from_magnitude_codes, magnitude_codes, round_in_place, rounded

torch = pytest.importorskip("torch")


def patterns(rng):
    """Float32 values of every exponent, ties, neighbours of ties, subnormals, signed zeros."""
    bits = rng.integers(0, 2**32, 400_000, dtype=np.uint32)
    ties = (rng.integers(0, 2**16, 50_000, dtype=np.uint32) << 16) | np.uint32(0x8000)
    half = (rng.integers(0, 2**19, 50_000, dtype=np.uint32) << 13) | np.uint32(0x1000)
    near = np.concatenate([ties - 1, ties + 1, half - 1, half + 1])
    small = (2.0 ** rng.uniform(-27, -12, 100_000)).astype(np.float32)
    exact = (rng.integers(0, 4096, 20_000) * 2.0**-25).astype(np.float32)  # ties among float16's subnormals
    values = np.concatenate([np.concatenate([bits, ties, half, near]).view(np.float32), small, -small, exact, -exact])
    return values[np.isfinite(values)]


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_rounding_is_torch_bit_by_bit(name):
    values = patterns(np.random.default_rng(1))
    ours = rounded(values, FORMATS[name])
    theirs = torch.from_numpy(values).to(getattr(torch, name)).float().numpy()
    assert np.array_equal(ours.view(np.uint32), theirs.view(np.uint32))
    truncated = (values.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    assert not np.array_equal(truncated, theirs)  # what a wrong rounding would give


@pytest.mark.parametrize("name", list(FORMATS))
def test_formats_are_torch_s(name):
    info = torch.finfo(getattr(torch, name))
    fmt = FORMATS[name]
    assert (fmt.largest, 2.0**fmt.smallest, 2.0**-fmt.bits) == (info.max, info.smallest_normal, info.eps)
    assert fmt.spacing(np.array([fmt.smallest - 3.0]))[0] == 2.0 ** (fmt.smallest - fmt.bits)


def test_in_place_works_on_the_given_memory():
    values = np.array([1.0 + 2.0**-9, -1e-7], dtype=np.float32)
    out = round_in_place(values, FORMATS["float16"], np.empty(2, np.uint32))
    assert out is values
    assert values.tolist() == [float(np.float16(1.0 + 2.0**-9)), float(np.float16(-1e-7))]


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_magnitude_codes_lose_nothing_but_the_sign(name):
    fmt = FORMATS[name]
    stored = rounded(np.random.default_rng(2).standard_normal(10_000) * 10.0 ** np.arange(-5, 5).repeat(1000), fmt)
    assert np.array_equal(from_magnitude_codes(magnitude_codes(stored, fmt), fmt), np.abs(stored))
