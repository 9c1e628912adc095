"""The peak of the reward foretold from what updates earn and pay."""

import math

import numpy as np
import pytest

from estheory.quantities import Quantity
from estheory.theory.economy.ledger import Ledger
from estheory.theory.economy.ledger_entry import Entry
from estheory.theory.economy.peak import crossing, peak_prediction

FALL, START, COST, GROWTH = 0.03, 0.02, 0.002, 2e-5
PEAK = 60.9  # where START exp(-FALL t) meets COST + GROWTH t


def book(steps, rng, error=3e-4, **changes):
    """A ledger whose rates are known, with errors."""
    entries = []
    for t in range(1, steps + 1):
        earned, paid = START * math.exp(-FALL * (t - 0.5)), COST + GROWTH * (t - 0.5)
        values = {
            "step": t, "earned": earned + error * rng.standard_normal(), "earned_stderr": error,
            "paid": paid + error / 5 * rng.standard_normal(), "paid_stderr": error / 5,
            "reliability": 0.5, "odd_share": 0.3, "even_share": 0.2, "reward": 0.5, "reward_stderr": 0.01,
            "member_variance": 0.01, "walk": 1e-6, "bound": None,
        }  # fmt: skip
        entries.append(Entry(**(values | changes)))
    return Ledger(entries=tuple(entries), centred=True)


def test_where_rates_meet():
    assert START * math.exp(-FALL * PEAK) == pytest.approx(COST + GROWTH * PEAK, rel=0.01)
    for apart in (5.0, 20.0):
        earned = START * math.exp(FALL * apart), START
        assert crossing(earned, (COST - GROWTH * apart, COST), apart) == pytest.approx(PEAK, rel=0.01)
        assert crossing(earned, (COST, COST), apart) == pytest.approx(math.log(START / COST) / FALL)
    assert crossing((1.0, 1.0), (0.0, 0.5), 10.0) == pytest.approx(10.0)
    assert crossing((2.0, 1.0), (0.0, 0.0), 10.0) == math.inf
    assert crossing((2.0, 1.0), (1.5, 1.2), 10.0) == 0.0


@pytest.mark.parametrize(("count", "half"), [(8, 4), (11, 5)])
def test_a_ledger_without_error_is_that_of_the_means_of_its_halves(count, half):
    known = book(count, np.random.default_rng(0), error=0.0)
    earned, paid = (
        [np.mean([getattr(entry, name) for entry in part]) for part in (known.entries[:half], known.entries[half:])]
        for name in ("earned", "paid")
    )
    ahead = crossing(tuple(earned), tuple(paid), count / 2)
    told = peak_prediction(known).law
    assert told.mean == pytest.approx(count - (count - half) / 2 + ahead, rel=1e-12)
    assert told.std < 1e-9
    assert crossing((1.0, 1.0), (0.5, 0.5), 10.0) == math.inf  # neither falls nor grows


@pytest.mark.parametrize(("errors", "told"), [(2.5, True), (1.5, False)])
def test_what_was_earned_must_be_beyond_twice_its_error(errors, told):
    of_all = 24 * 0.01 / errors / math.sqrt(24)  # the error of one entry
    entries = book(24, np.random.default_rng(0), earned=0.01, earned_stderr=of_all, paid=0.1, paid_stderr=1e-6)
    assert entries.total("earned").value == pytest.approx(errors * entries.total("earned").stderr)
    assert (peak_prediction(entries) is not None) == told


def test_the_peak_is_met_within_its_error():
    found = []
    for seed in range(60):
        law = peak_prediction(book(24, np.random.default_rng(seed))).law
        found.append(((law.mean - PEAK) / law.std, law.mean))
    z, means = np.array(found).T
    assert abs(z.mean()) < 1.0  # a ratio of noisy rates is skewed
    assert 0.4 < z.std() < 1.6
    assert abs(np.median(means) / PEAK - 1) < 0.15
    assert abs(np.median(means) / (1.5 * PEAK) - 1) > 0.15  # control


def test_what_does_not_tell_a_peak():
    rng = np.random.default_rng(1)
    assert peak_prediction(book(7, rng)) is None
    assert peak_prediction(book(24, rng, bound="upper")) is None
    assert peak_prediction(book(24, rng, paid=math.nan)) is None
    assert peak_prediction(book(24, rng, paid=0.0, paid_stderr=0.0)) is None  # nothing is paid: no peak
    assert peak_prediction(book(24, rng, earned=0.0, earned_stderr=0.0, paid=0.0, paid_stderr=0.0)) is None  # tied
    noise = [book(40, rng, earned=0.0, earned_stderr=0.01, paid=1e-5, paid_stderr=1e-6)]
    noise += [book(40, rng, earned=x, earned_stderr=0.01, paid=1e-5, paid_stderr=1e-6) for x in (1e-3, -1e-3)]
    assert [peak_prediction(each) for each in noise] == [None] * 3
    assert peak_prediction(book(24, rng)).quantity is Quantity.REWARD_PEAK_STEP
