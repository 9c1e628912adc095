"""Noise: reproducible from its numbers alone, independent between streams, and of the right law."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import get_args

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor, nn

from estheory.models.noise import MemberNoise
from estheory.models.noise_streams import BLOCK, Generator, NoiseStructure
from estheory.models.parameters import FlatParameters

FALSE_FAILURE_RATE = 1e-6


@pytest.fixture(scope="module")
def parameters() -> FlatParameters:
    """Two tensors of one shape, a large one of three blocks, and a small one."""
    large = 2 * BLOCK + 5000
    return FlatParameters(
        nn.ParameterDict(
            {
                "a": nn.Parameter(torch.ones(100, 300)),
                "b": nn.Parameter(torch.ones(100, 300)),
                "c": nn.Parameter(torch.ones(large)),
                "d": nn.Parameter(torch.ones(7)),
            }
        )
    )


def noise(
    parameters: FlatParameters,
    *,
    seed: int = 5,
    step: int = 1,
    member: int = 0,
    threads: int = 1,
    generator: Generator = "mt19937",
) -> Tensor:
    out = torch.full((parameters.dim,), torch.nan)
    structure = NoiseStructure(generator=generator)
    drawn = MemberNoise(parameters=parameters, seed=seed, structure=structure, threads=threads)
    drawn.fill(out, step=step, member=member)
    return out


def streams(
    parameters: FlatParameters, seed: int, step: int, member: int
) -> Iterator[tuple[int, int, np.random.Philox]]:
    """Where each stream begins in the vector, how many entries it fills, and numpy's own Philox at its place."""
    key = np.random.SeedSequence(seed, spawn_key=(0x65732D6E,)).generate_state(2, np.uint64)
    for tensor, (start, size) in enumerate(zip(parameters.offsets, parameters.sizes, strict=True)):
        for block, low in enumerate(range(0, size, BLOCK)):
            counter = np.array([0, tensor << 32 | block, member, step], dtype=np.uint64)
            yield start + low, min(BLOCK, size - low), np.random.Philox(key=key, counter=counter)


def smallest_pvalue(vectors: list[Tensor]) -> float:
    """Smallest p-value of a zero correlation over all pairs, times the number of pairs (exact for normals)."""
    pairs = list(combinations(vectors, 2))
    pvalues = []
    for one, other in pairs:
        r = np.corrcoef(one.double().numpy(), other.double().numpy())[0, 1]
        t = r * np.sqrt((one.numel() - 2) / max(1 - r * r, 1e-30))
        pvalues.append(2 * scipy.stats.t.sf(abs(t), one.numel() - 2))
    return float(min(pvalues) * len(pairs))


def norm_pvalue(vector: Tensor, variance: float) -> float:
    """Two-sided p-value of the squared norm under the chi-square law."""
    square = float(vector.double().square().sum()) / variance
    return 2 * float(min(scipy.stats.chi2.cdf(square, vector.numel()), scipy.stats.chi2.sf(square, vector.numel())))


@pytest.mark.parametrize("generator", get_args(Generator))
def test_same_numbers_give_the_same_bits_whatever_the_threads(parameters: FlatParameters, generator: Generator) -> None:
    first = noise(parameters, generator=generator)
    assert first.isfinite().all()
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            assert torch.equal(first, noise(parameters, threads=threads, generator=generator))
    finally:
        torch.set_num_threads(before)


KNOWN: dict[Generator, list[float]] = {
    "philox": [-2.730032444000244, -1.7745459079742432, -1.2104966640472412, -0.27740493416786194, 0.7411572337150574],
    "mt19937": [0.37090006470680237, -0.43167755007743835, 0.8183409571647644, 1.3703479766845703, 0.34511178731918335],
}


@pytest.mark.parametrize("generator", get_args(Generator))
def test_known_values_never_change(parameters: FlatParameters, generator: Generator) -> None:
    # Recorded runs are replayed from their seeds: another stream would make them worthless.
    vector = noise(parameters, seed=2**70 + 3, step=12, member=29, generator=generator)
    drawn = [float(vector[k]) for k in (0, 30_000, 60_000, 60_000 + BLOCK, parameters.dim - 1)]
    assert drawn == pytest.approx(KNOWN[generator], rel=0 if generator == "philox" else 1e-6)


def test_every_philox_stream_is_its_own_generator_s_from_the_start(parameters: FlatParameters) -> None:
    vector = noise(parameters, seed=7, step=2, member=3, generator="philox")
    for start, size, philox in streams(parameters, 7, 2, 3):
        drawn = np.random.Generator(philox).standard_normal(size, dtype=np.float32)
        assert np.array_equal(drawn, vector[start : start + size].numpy())


def test_every_twister_starts_from_its_own_philox_words(parameters: FlatParameters) -> None:
    # numpy's Mersenne Twister, and the Box-Muller transform of groups of sixteen uniforms of 24 bits.
    vector = noise(parameters, seed=7, step=2, member=3).double().numpy()
    for start, size, philox in streams(parameters, 7, 2, 3):
        groups = size // 16 - 1  # torch draws the last sixteen again where the size is no multiple of sixteen
        if groups < 1:
            continue
        twister = np.random.MT19937()
        words = philox.random_raw(312).view(np.uint32)
        twister.state = {"bit_generator": "MT19937", "state": {"key": words, "pos": 624}}
        uniforms = (twister.random_raw(16 * groups) & 0xFFFFFF).reshape(groups, 2, 8) / 2**24
        radius, angle = np.sqrt(-2 * np.log1p(-uniforms[:, 0])), 2 * np.pi * uniforms[:, 1]
        normals = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).ravel()
        assert np.allclose(vector[start : start + len(normals)], normals, rtol=1e-5, atol=1e-5)


def test_streams_are_independent(parameters: FlatParameters) -> None:
    base = noise(parameters)
    others = [noise(parameters, seed=6), noise(parameters, step=2), noise(parameters, member=1)]
    others += [noise(parameters, seed=5 + 2**32), noise(parameters, seed=5 + 2**64)]  # every bit of a seed counts
    swapped = [noise(parameters, seed=1, step=5), noise(parameters, step=0, member=1)]
    assert smallest_pvalue([base, *others, *swapped]) > FALSE_FAILURE_RATE


def test_tensors_and_blocks_are_independent(parameters: FlatParameters) -> None:
    vector = noise(parameters)
    a, b = parameters.tensor("a", vector).flatten(), parameters.tensor("b", vector).flatten()
    c = parameters.tensor("c", vector)
    assert smallest_pvalue([a, b, c[: a.numel()], c[BLOCK : BLOCK + a.numel()]]) > FALSE_FAILURE_RATE


def test_the_independence_test_can_fail(parameters: FlatParameters) -> None:
    vector = noise(parameters)
    a, b = parameters.tensor("a", vector).flatten(), parameters.tensor("b", vector).flatten()
    assert smallest_pvalue([a, 0.05 * a + b]) < FALSE_FAILURE_RATE
    assert smallest_pvalue([vector, noise(parameters)]) < FALSE_FAILURE_RATE


def test_noise_is_standard_normal(parameters: FlatParameters) -> None:
    vector = noise(parameters)
    assert norm_pvalue(vector, 1.0) > FALSE_FAILURE_RATE
    assert norm_pvalue(vector, 1.02) < FALSE_FAILURE_RATE
    assert scipy.stats.kstest(vector.double().numpy(), "norm").pvalue > FALSE_FAILURE_RATE
    assert scipy.stats.kstest(vector.double().numpy() + 0.01, "norm").pvalue < FALSE_FAILURE_RATE


def test_perturb_adds_sigma_times_the_noise(parameters: FlatParameters) -> None:
    centre, out = torch.linspace(-1, 1, parameters.dim), torch.empty(parameters.dim)
    MemberNoise(parameters=parameters, seed=5, threads=2).perturb(out, centre, sigma=0.25, step=1, member=0)
    assert torch.equal(out, centre + noise(parameters) * 0.25)


def test_weighted_sum_agrees_with_float64_and_with_itself(parameters: FlatParameters) -> None:
    weights = [0.7, -1.3, 0.0, 2.1]
    exact, magnitude = torch.zeros(parameters.dim).double(), torch.zeros(parameters.dim).double()
    for member, weight in enumerate(weights):
        exact += weight * noise(parameters, member=member).double()
        magnitude += abs(weight) * noise(parameters, member=member).double().abs()
    out = torch.zeros(parameters.dim)
    MemberNoise(parameters=parameters, seed=5).add_weighted(out, weights, scale=0.5, step=1)
    # each of: rounding a weight, its product, N sums, the scale, the final sum errs by at most 2^-24 relative
    bound = (len(weights) + 4) * 2.0**-24 * 0.5 * magnitude * 1.01
    assert (out.double() - 0.5 * exact).abs().le(bound).all()
    again = torch.zeros(parameters.dim)
    MemberNoise(parameters=parameters, seed=5, threads=2).add_weighted(again, weights, scale=0.5, step=1)
    assert torch.equal(out, again)


@pytest.mark.parametrize("way", ["add_weighted", "add_in_turn"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_parts_that_are_made_apart_are_the_whole(parameters: FlatParameters, way: str, dtype: torch.dtype) -> None:
    add, weights = getattr(MemberNoise(parameters=parameters, seed=5), way), [0.7, -1.3, 2.1]
    start = torch.linspace(-1, 1, parameters.dim).to(dtype)
    whole = start.clone()
    add(whole, weights, scale=0.01, step=1)
    for count in (1, 2, 3, 9):
        out = torch.full_like(start, torch.nan)
        for k in reversed(range(count)):
            for _ in range(2):  # again, as after a kill
                add(out, weights, scale=0.01, step=1, start=start, part=(k, count))
        assert torch.equal(out, whole)


def test_another_dtype_gets_the_rounded_noise(parameters: FlatParameters) -> None:
    out = torch.empty(parameters.dim, dtype=torch.bfloat16)
    MemberNoise(parameters=parameters, seed=5).fill(out, step=1, member=0)
    assert torch.equal(out, noise(parameters).bfloat16())
