"""What ties leave of an update of centred ranks."""

import numpy as np
import pytest
from scipy.stats import rankdata

from estheory.validation.rank_norm_facts import rank_norm_pairs, untied_share


@pytest.mark.parametrize(("formed", "right"), [(0.43, 0.01), (0.99, 0.04), (1.0, 0.06), (1.0, 0.3)])
def test_ranks_that_share_their_mean_lose_this_much(formed, right):
    """2,000 draws of 30 members on 8 prompts; six standard errors, a false failure in 5e8; 5 % more is seen."""
    rng = np.random.default_rng(1)
    draw = rng.random((2000, 30, 8))
    rewards = np.round(0.1 * (draw < formed) + 0.9 * (draw < right), 9).sum(axis=2).round(6)
    ranks = np.stack([rankdata(row) for row in rewards]) - 15.5
    share = (ranks**2).sum(axis=1) / (30 * (30**2 - 1) / 12)
    error = share.std() / np.sqrt(len(share))
    expected = untied_share(formed, right)
    assert abs(share.mean() - expected) < 6 * error
    assert abs(share.mean() - 1.05 * expected) > 6 * error


def test_every_public_norm_is_in_the_band_of_the_law_with_ties_and_not_without():
    found = {"with ties": [], "without": []}
    for law, measured in rank_norm_pairs():
        inside = abs(measured.value / law.law.mean - 1) <= law.systematic
        found["with ties" if "with ties" in measured.where else "without"].append(inside)
    assert len(found["with ties"]) == len(found["without"]) == 28
    assert all(found["with ties"])
    assert not all(found["without"])
