"""What the strategies draw, and what it shrinks to."""

import math

import numpy as np
import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st

from estheory.errors import ConfigError
from estheory.testing import es_configs, landscapes, noise, reward_vectors, spectra, tensor_shapes

few = settings(max_examples=50, deadline=None)


@few
@given(reward_vectors(st.integers(2, 30), kinds=("plain", "binary", "huge", "tiny")))
def test_rewards_differ_where_they_should(rewards):
    assert rewards.dtype == np.float64
    assert np.ptp(rewards) > 0


@few
@given(reward_vectors(12, kinds=("equal",)), reward_vectors(12, kinds=("binary",)))
def test_kinds_are_what_they_say(equal, binary):
    assert equal.shape == binary.shape == (12,)
    assert np.ptp(equal) == 0
    assert set(binary) == {0.0, 1.0}


def test_rewards_shrink_to_small_examples():
    assert find(reward_vectors(4, kinds=("plain",)), lambda r: True).tolist() == [1, 0, 0, 0]
    assert len(find(reward_vectors(), lambda r: r.max() >= 1)) == 2


def test_unknown_kinds_are_refused():
    with pytest.raises(ConfigError, match="unknown"):
        reward_vectors(kinds=("strange",))


@few
@given(noise(5, st.integers(1, 9)))
def test_noise_has_a_row_a_member(eps):
    assert eps.shape[0] == 5
    assert np.all(np.abs(eps) < 9)


@few
@given(es_configs(), es_configs(antithetic=True, dim=64), es_configs(shaping="raw", momentum=0.5))
def test_configurations_are_valid_and_keep_what_is_fixed(any_one, pairs, raw):
    assert any_one.population >= 2
    assert (pairs.shaping, pairs.population % 2, pairs.dim) == ("zscore", 0, 64)
    assert (raw.shaping, raw.momentum, raw.anchor_l1) == ("raw", 0.5, 0.0)


@few
@given(spectra(), spectra(dim=20), tensor_shapes(max_elements=30))
def test_spectra_and_shapes(one, other, shapes):
    assert sum(one.multiplicity) <= one.dim
    assert other.dim == 20
    assert all(math.prod(shape) <= 30 for shape in shapes)


@few
@given(landscapes(st.integers(1, 6)))
def test_landscapes_are_functions_of_theta(reward):
    value = reward(np.zeros(reward.dim))
    assert isinstance(value, float)
    if reward.kind == "quadratic":
        assert reward(reward.optimum) == 0 >= value
    else:
        assert 0 <= value <= 1
