"""Small cases worked out by hand, where a wrong factor in a formula cannot hide behind sampling noise."""

import math

import numpy as np
import pytest

from estheory.errors import ConfigError
from estheory.landscape import Landscape, Signal
from estheory.rules import ESConfig
from estheory.theory.curved.comparison import EndPoint, displacement_cosine
from estheory.theory.drift import kl_law
from estheory.theory.estimators import CentredRanks, estimator_of
from estheory.theory.signal import gradient_cosine
from estheory.theory.walk import walk


def ranks_of(population):
    return CentredRanks(population=population, sigma=1.0, alpha=1.0)


@pytest.mark.parametrize(
    ("population", "mean", "variance"),
    [
        (2, math.sqrt(2 / math.pi), 1 - 2 / math.pi),  # the larger of two: half the distance of two normals
        (3, 3 / math.sqrt(2 * math.pi), (2 + 3 * math.sqrt(3) / math.pi - 9 / math.pi) / 2),  # the range of three
    ],
)
def test_centred_ranks_of_two_and_three_members(population, mean, variance):
    found = ranks_of(population).own_projection(1.0)
    assert found == pytest.approx((mean, variance), rel=1e-12)
    weaker = ranks_of(population).own_projection(0.25)
    assert weaker == pytest.approx((mean / 2, 0.75 + variance / 4), rel=1e-12)


def test_moments_of_centred_ranks_are_those_of_a_normal_by_quadrature():
    ranks = ESConfig(dim=10**6, sigma=0.1, population=7, shaping="centered-rank")
    mean, variance = ranks_of(7).own_projection(0.3)
    nodes, weights = np.polynomial.hermite_e.hermegauss(20)
    drawn = mean + math.sqrt(variance) * nodes
    second, fourth = (float(weights @ drawn**power) / math.sqrt(2 * math.pi) for power in (2, 4))
    assert estimator_of(ranks).projection_moments(0.3, 0.0) == pytest.approx((second, second, fourth), rel=1e-12)
    law = gradient_cosine(ranks, 0.3)
    length = mean / law.mean
    assert length == pytest.approx(1000, rel=1e-3)  # sqrt(d): the step is orthogonal to the gradient but for A
    assert law.std == pytest.approx(math.sqrt(variance) / length, rel=10 / ranks.dim)  # A^2 in the length: O(1/d)


def test_the_cosine_of_two_end_points_by_hand():
    """Two directions of offset 1; one method goes all the way in both, the other half, with some flat noise."""
    where = Landscape(dim=6, eigenvalue=[1.0], multiplicity=[2], offset=[1.0])
    whole = EndPoint(mean=np.array([0.0]), variance=np.array([0.0]))
    half = EndPoint(mean=np.array([0.5]), variance=np.array([0.0]), flat_variance=0.125)
    still = EndPoint(mean=np.array([1.0]), variance=np.array([0.0]))
    # D1.D2 = 2 * 1 * 0.5; ||D1||^2 = 2, ||D2||^2 = 2 * 0.25 + 4 * 0.125
    assert displacement_cosine(where, whole, half) == pytest.approx(1 / math.sqrt(2 * 1.0), rel=1e-14)
    assert displacement_cosine(where, whole, still) == 0.0


def test_a_square_trace_above_the_trace_squared_by_rounding_alone_is_no_error():
    one = walk(ESConfig(dim=100, sigma=0.1, population=4, steps=2), Signal(), 2)
    kl_law(one, fisher_trace=3.0, fisher_square_trace=9.0 * (1 + 1e-12))
    with pytest.raises(ConfigError, match="exceeds the square"):
        kl_law(one, fisher_trace=3.0, fisher_square_trace=9.0 * (1 + 1e-6))
