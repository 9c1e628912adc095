"""Noise: reproducible from its numbers alone, independent between streams, and of the right law."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor, nn

from estheory.models.noise import MemberNoise
from estheory.models.noise_streams import BLOCK
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


def noise(parameters: FlatParameters, *, seed: int = 5, step: int = 1, member: int = 0, threads: int = 1) -> Tensor:
    out = torch.full((parameters.dim,), torch.nan)
    MemberNoise(parameters=parameters, seed=seed, threads=threads).fill(out, step=step, member=member)
    return out


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


def test_same_numbers_give_the_same_bits_whatever_the_threads(parameters: FlatParameters) -> None:
    first = noise(parameters)
    assert first.isfinite().all()
    for threads in (1, 2, 3):
        assert torch.equal(first, noise(parameters, threads=threads))


def test_known_values_never_change(parameters: FlatParameters) -> None:
    # Recorded runs are replayed from their seeds: another stream would make them worthless.
    vector = noise(parameters, seed=2**70 + 3, step=12, member=29)
    known = [-2.730032444000244, -1.7745459079742432, -1.2104966640472412, -0.27740493416786194, 0.7411572337150574]
    assert [float(vector[k]) for k in (0, 30_000, 60_000, 60_000 + BLOCK, parameters.dim - 1)] == known


def test_every_stream_is_its_own_generator_s_from_the_start(parameters: FlatParameters) -> None:
    vector, seed, step, member = noise(parameters, seed=7, step=2, member=3), 7, 2, 3
    key = np.random.SeedSequence(seed, spawn_key=(0x65732D6E,)).generate_state(2, np.uint64)
    for tensor, (start, size) in enumerate(zip(parameters.offsets, parameters.sizes, strict=True)):
        for block, low in enumerate(range(0, size, BLOCK)):
            counter = np.array([0, tensor << 32 | block, member, step], dtype=np.uint64)
            generator = np.random.Generator(np.random.Philox(key=key, counter=counter))
            drawn = generator.standard_normal(min(BLOCK, size - low), dtype=np.float32)
            assert np.array_equal(drawn, vector[start + low : start + low + len(drawn)].numpy())


def test_streams_are_independent(parameters: FlatParameters) -> None:
    base = noise(parameters)
    others = [noise(parameters, seed=6), noise(parameters, step=2), noise(parameters, member=1)]
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


def test_another_dtype_gets_the_rounded_noise(parameters: FlatParameters) -> None:
    out = torch.empty(parameters.dim, dtype=torch.bfloat16)
    MemberNoise(parameters=parameters, seed=5).fill(out, step=1, member=0)
    assert torch.equal(out, noise(parameters).bfloat16())
