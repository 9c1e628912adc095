"""The rise over the chord between runs on quadratics of every coordinate, from their ledgers."""

import math

import numpy as np
import pytest

from estheory.laws import PointLaw
from estheory.theory.economy.chord import Displaced, chord_rise, pulled_walk
from estheory.theory.economy.steered_run import SteeredRun
from tests.statistics import Z
from tests.theory.economy.test_coherent import DIM, quadratic, runs
from tests.variants import variants

CASES = {
    "few directions": [(6, 0.8, 1.0)],
    "many directions": [(100, 0.8, 1.0)],
    "little learned": [(100, 0.2, 0.3)],
}


@pytest.mark.parametrize("name", variants(CASES, fast={"many directions"}))
def test_between_two_runs_and_from_the_base(name):
    blocks = CASES[name]
    curvatures, _ = quadratic(*blocks)
    trace, curvature = curvatures.sum(), blocks[0][1]
    found = runs(30, blocks, replicas=60)
    theta = np.array([each for each, _, _ in found])
    ends = [SteeredRun(part=part, dim=DIM).displaced(curvature) for _, _, part in found]
    pairs = list(zip(ends[0::2], ends[1::2], strict=True))

    def differences(displacements, others):
        rises = displacements**2 @ curvatures / 8
        told = [chord_rise(*two, trace=trace, curvature=curvature).mean for two in others]
        return rises - told, float(np.mean(rises))

    # mean-field, with a ledger's error in b that a difference of two runs counts twice
    for band, (wrong, rise) in (
        (0.25 if name == "few directions" else 0.08, differences(theta[0::2] - theta[1::2], pairs)),
        (0.25 if name == "little learned" else 0.08, differences(theta, [(end, Displaced()) for end in ends])),
    ):
        assert abs(wrong.mean()) < band * rise + Z * wrong.std() / math.sqrt(wrong.size)
    flat = [
        (Displaced(walk=part.walk[-1], along=end.along), Displaced())
        for (_, _, part), end in zip(found, ends, strict=True)
    ]
    straight = [(one[0], other[0]) for one, other in zip(flat[0::2], flat[1::2], strict=True)]
    wrong, rise = differences(theta[0::2] - theta[1::2], straight)  # control: nothing pulls the walk back
    assert -wrong.mean() > 0.25 * rise + Z * wrong.std() / math.sqrt(wrong.size)
    apart, rise = differences(theta, [(Displaced(walk=end.walk), Displaced()) for end in ends])
    assert apart.mean() > 0.1 * rise  # control: a walk alone


def test_its_law_is_that_of_gaussian_walks():
    rng, count = np.random.default_rng(1), 20_000
    lam, directions, one, other = 3.0, 7, Displaced(walk=0.02, along=0.5), Displaced(walk=0.05, along=0.1)
    apart = math.sqrt(one.walk) * rng.standard_normal((count, directions))
    apart -= math.sqrt(other.walk) * rng.standard_normal((count, directions))
    apart[:, 0] += one.along - other.along
    rises = lam * (apart**2).sum(axis=1) / 8
    law = chord_rise(one, other, trace=lam * directions, curvature=lam)
    for seen, told in ((rises, law.mean), ((rises - rises.mean()) ** 2, law.std**2)):
        error = Z * seen.std() / math.sqrt(count)
        assert abs(seen.mean() - told) < error
        assert abs(seen.mean() - 1.1 * told) > error  # control
    walks = chord_rise(Displaced(walk=0.3), Displaced(), trace=lam * directions, curvature=lam)
    assert walks.std == pytest.approx(walks.mean * math.sqrt(2 / directions), rel=1e-12)  # chi-square
    assert chord_rise(Displaced(along=2.0), Displaced(), trace=4.0, curvature=2.0) == PointLaw(1.0)
    assert chord_rise(one, one, trace=0.0, curvature=0.0) == PointLaw(0.0)


def test_a_pulled_walk():
    walk, mobility = np.array([1.0, 2.0, 4.0]), np.array([0.9, 0.25, 0.5])
    assert pulled_walk(walk, mobility, 0.0) == 7.0
    assert pulled_walk(walk, mobility, 1.0) == pytest.approx(1 * (0.75 * 0.5) ** 2 + 2 * 0.5**2 + 4)
    assert pulled_walk(walk, mobility, 3.0) == 4.0  # an update that would overshoot ends at the optimum
    assert pulled_walk(walk, -mobility, 1.0) == 7.0  # what has not learned is not pushed away
