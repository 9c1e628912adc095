"""The forward-only Fisher probe against the exact Fisher matrix by autograd."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch

from estheory.errors import ConfigError, DataError
from estheory.measurement.fisher import FisherProbe, probe_ratio
from estheory.measurement.kl import token_kl
from estheory.measurement.probes import PROBE_STEP, default_sigma, fisher_probe, fisher_probes
from estheory.models.noise import MemberNoise
from estheory.models.parameters import FlatParameters

Z = 5.0  # two-sided false-failure rate 6e-7


@pytest.fixture
def case(make_llama, prompts, fisher_factor):
    model = make_llama(0)
    flat = FlatParameters(model)
    return model, flat, prompts, fisher_factor(model, flat, prompts)


def test_every_sample_is_the_quadratic_form_of_its_own_direction(case):
    model, flat, prompts, factor = case
    scale = default_sigma(flat)
    coarse, fine = fisher_probes(model, flat, prompts, sigmas=[scale, scale / 2], directions=6, seed=3)
    for member in range(6):
        eps = torch.empty(flat.dim)
        MemberNoise(parameters=flat, seed=3).fill(eps, step=PROBE_STEP, member=member)
        exact = float((factor @ eps.double()).square().sum())
        # the leading error is linear in sigma, so halving sigma leaves as much as the two scales differ by
        difference = abs(coarse.samples[member] - fine.samples[member])
        assert abs(fine.samples[member] - exact) < 2 * difference + 1e-3 * exact
        assert abs(fine.samples[member] / exact - 1) < 0.1


def test_trace_and_square_trace_agree_with_autograd(case):
    model, flat, prompts, factor = case
    trace = float(factor.square().sum())
    square_trace = float((factor @ factor.T).square().sum())
    probe = fisher_probe(model, flat, prompts, directions=400, seed=1)
    assert abs(probe.trace - trace) < Z * probe.trace_stderr
    assert abs(probe.square_trace - square_trace) < Z * probe.square_trace_stderr
    spread = math.sqrt(2 * square_trace) / trace
    assert abs(probe.estimated_relative_std / spread - 1) < Z * probe.square_trace_stderr / square_trace / 2
    # negative controls: a lost factor 1/2, and a trace that leaves out the first tensor, the tied embedding
    assert abs(probe.trace / 2 - trace) > Z * probe.trace_stderr
    assert abs(probe.square_trace * 2 - square_trace) > Z * probe.square_trace_stderr
    without = float(factor[:, flat.sizes[0] :].square().sum())
    assert abs(probe.trace - without) > Z * probe.trace_stderr


@pytest.mark.slow
def test_a_probe_at_a_large_scale_gives_the_mean_kl_of_walks_of_that_length(case):
    """Where the quadratic law fails: independent walks, made with another seed, agree with the matched probe."""
    model, flat, prompts, _ = case
    scale = 100 * default_sigma(flat)
    small, matched = fisher_probes(model, flat, prompts, sigmas=[scale / 100, scale], directions=300, seed=0)
    centre, base, walks = flat.vector.clone(), copy.deepcopy(model), []
    for member in range(300):
        MemberNoise(parameters=flat, seed=11).perturb(flat.vector, centre, sigma=scale, step=1, member=member)
        walks.append(token_kl(base, model, prompts).value)
    error = math.hypot(np.std(walks, ddof=1) / math.sqrt(300), matched.mean_kl_stderr)
    assert abs(np.mean(walks) - matched.mean_kl) < Z * error
    assert abs(np.mean(walks) - small.trace * scale**2 / 2) > Z * error


def test_default_scale_is_inside_the_quadratic_range(case):
    model, flat, prompts, _ = case
    scale = default_sigma(flat)
    small, large = fisher_probes(model, flat, prompts, sigmas=[scale, 2 * scale], directions=64)
    ratio, stderr = probe_ratio(small, large)
    assert abs(ratio - 1) < Z * stderr + 0.01
    assert stderr < small.trace_stderr / small.trace / 2  # pairing the directions is what makes this sharp
    _, far = fisher_probes(model, flat, prompts, sigmas=[scale, 300 * scale], directions=64)
    ratio, stderr = probe_ratio(small, far)
    assert abs(ratio - 1) > Z * stderr + 0.01  # and the check can fail


def test_small_sample_corrections_are_unbiased():
    """K = 4 samples of a weighted chi-square with known traces, 20000 times."""
    weights = np.linspace(0.2, 1.0, 60)
    rng = np.random.default_rng(0)
    draws = (rng.normal(size=(20000, 4, 60)) ** 2) @ weights
    probes = [FisherProbe(sigma=1, samples=tuple(row), seed=0, dim=60, tokens=1, seconds=0) for row in draws]
    exact = (weights**2).sum()
    squares = np.array([probe.square_trace for probe in probes])
    assert abs(squares.mean() - exact) < Z * squares.std() / math.sqrt(len(squares))
    assert abs(squares.mean() * 3 / 4 - exact) > Z * squares.std() / math.sqrt(len(squares))  # K in place of K - 1
    spreads = np.array([probe.estimated_relative_std for probe in probes])
    spread = math.sqrt(2 * exact) / weights.sum()
    # what stays is O(spread^2): 0.2^2 here; without c4(4) = 0.921 it would be off by 0.079
    assert abs(spreads.mean() / spread - 1) < spread**2 + Z * spreads.std() / spread / math.sqrt(len(spreads))
    claimed = np.mean([probe.square_trace_stderr**2 for probe in probes])
    # E s^4 exceeds sigma^4 by the factor 1 + Var(s^2)/sigma^4, about 5/3 at K = 4
    assert abs(claimed / squares.var() / (1 + squares.var() / exact**2) - 1) < 0.1


def test_the_model_is_put_back_bit_for_bit_also_after_an_error(case):
    model, flat, prompts, _ = case
    before = flat.vector.clone()
    fisher_probe(model, flat, prompts, directions=2, sigma=0.3)
    assert torch.equal(flat.vector.view(torch.int32), before.view(torch.int32))
    with pytest.raises(DataError):
        fisher_probe(model, flat, prompts, directions=2, sigma=3e38)
    assert torch.equal(flat.vector.view(torch.int32), before.view(torch.int32))


def test_same_seed_same_samples_and_other_seed_other_samples(case):
    model, flat, prompts, _ = case
    a, b, c = (fisher_probe(model, flat, prompts, directions=2, seed=seed) for seed in (0, 0, 1))
    assert a.samples == b.samples
    assert a.samples != c.samples
    with pytest.raises(ConfigError, match="different directions"):
        probe_ratio(a, c)


def test_only_the_trainable_tensors_move(make_llama, prompts):
    model = make_llama(0)
    whole = fisher_probe(model, FlatParameters(model), prompts, directions=32, sigma=1e-3)
    model = make_llama(0)
    part = fisher_probe(model, FlatParameters(model, "last:1"), prompts, directions=32, sigma=1e-3)
    assert part.dim < whole.dim
    assert part.trace < whole.trace


@pytest.mark.parametrize(("sigma", "directions"), [(0.0, 8), (-1.0, 8), (math.nan, 8), (1e-3, 1)])
def test_impossible_probes_are_refused(case, sigma, directions):
    model, flat, prompts, _ = case
    with pytest.raises(ConfigError, match="directions"):
        fisher_probe(model, flat, prompts, sigma=sigma, directions=directions)


def test_zero_weights_need_a_scale(make_llama):
    flat = FlatParameters(make_llama(0))
    flat.vector.zero_()
    with pytest.raises(ConfigError, match="zero"):
        default_sigma(flat)


def test_half_precision_parameters_are_refused(make_llama, prompts):
    model = make_llama(0).to(torch.bfloat16)
    with pytest.raises(ConfigError, match="bfloat16"):
        fisher_probe(model, FlatParameters(model), prompts)
