"""Errors of variances between members, with each member left out in turn."""

import math

import numpy as np
import pytest

from estheory.theory.economy.variance_components import _variance_stderr


@pytest.mark.parametrize("count", [3, 4, 9])
def test_the_error_of_a_variance_is_its_jackknife(count):
    means = np.random.default_rng(count).exponential(size=count)
    without = [float(np.delete(means, member).var(ddof=1)) for member in range(count)]
    spread = sum((value - sum(without) / count) ** 2 for value in without)
    error = math.sqrt((count - 1) / count * spread)
    assert _variance_stderr(means - means.mean(), centred=True) == pytest.approx(error, rel=1e-12)


def test_of_two_members_none_can_be_left_out():
    assert _variance_stderr(np.array([1.0, -1.0]), centred=True) == 0.0
