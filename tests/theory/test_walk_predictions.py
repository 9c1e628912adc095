"""What is predicted of a walk, written out with Python's own sums: cosines of checkpoints, labels of lengths."""

import math

import pytest

from estheory.landscape import linear_signal
from estheory.quantities import Quantity
from estheory.rules import ESConfig
from estheory.theory.predictions import predict
from estheory.theory.rounding.precision import RoundingEffect
from estheory.theory.walk import checkpoint_correlation, response, step_effective_dim, walk
from estheory.theory.walk_predictions import checkpoint_pairs

SHAPES = [(20, 30), (40, 10)]
DIM = 1000


def written_out(config, first, second):
    """Coordinates of a cosine of two checkpoints whose steps are lopsided in few factors, one sum a line."""
    heights = response(config, second)
    heights = [1.0] * second if heights is None else list(heights)  # of a step, so many steps later
    late = [heights[second - 1 - k] for k in range(second)]
    early = [heights[first - 1 - k] if k < first else 0.0 for k in range(second)]
    both, early_square, late_square = (
        sum(a * b for a, b in zip(x, y, strict=True)) for x, y in ((early, late), (early, early), (late, late))
    )
    uneven = sum(
        (a * b / both - a * a / (2 * early_square) - b * b / (2 * late_square)) ** 2
        for a, b in zip(early, late, strict=True)
    )
    correlation = both / math.sqrt(early_square * late_square)
    assert correlation == pytest.approx(checkpoint_correlation(config, first, second), rel=1e-12)
    gaussian = (1 - correlation**2) ** 2 / DIM
    extra = correlation**2 * (2 / step_effective_dim(config, SHAPES) - 2 / DIM) * uneven
    return (1 - correlation**2) ** 2 / (gaussian + extra)


@pytest.mark.parametrize("momentum", [0.0, 0.6])
def test_few_factors_leave_a_cosine_fewer_coordinates(momentum):
    config = ESConfig(dim=DIM, sigma=0.01, population=6, steps=5, noise="low-rank:1", momentum=momentum)
    signal = linear_signal(sigma=config.sigma)
    walks = {step: walk(config, signal, step, SHAPES) for step in (2, 5)}
    found = checkpoint_pairs(config, walks, SHAPES, 2, 5)
    assert found == pytest.approx(written_out(config, 2, 5), rel=1e-9)
    assert found < 0.9 * DIM


def test_what_rounds_away_differs_between_steps_and_widens_a_cosine():
    config = ESConfig(dim=DIM, sigma=0.01, population=6, steps=5, dtype="bfloat16")
    rounding = {step: RoundingEffect(variance=0.9, signal=0.9, spread=0.5) for step in (1, 2, 5)}
    found = predict(config, checkpoints=[2, 5], rounding=rounding).predictions
    [cosine] = [p for p in found if p.quantity is Quantity.CHECKPOINT_COSINE]
    freedom = 2 / 0.5**2 / 5  # chi-squares of so many degrees have the fluctuation of a step
    assert (cosine.law.first_df, cosine.law.later_df) == pytest.approx((2 * freedom, 3 * freedom), rel=1e-12)
    assert cosine.label == "mean-field"


def test_a_ratio_of_a_steered_step_is_as_exact_as_its_length():
    """The square of a step over the plain walk's follows the law of its length."""
    config = ESConfig(dim=50, sigma=0.01, population=6)
    signal = linear_signal(sigma=config.sigma, gradient_norm=10.0, reward_std=0.1)
    for told, labels in ((None, ("exact", "exact")), (signal, ("exact", "exact"))):
        found = {p.quantity: p.label for p in predict(config, reward=told).predictions}
        assert (found[Quantity.DISPLACEMENT_NORM], found[Quantity.EFFECTIVE_DIMENSION_RATIO]) == labels
