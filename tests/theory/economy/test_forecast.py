"""Forecasts hold what comes, the state is the state, and stopping is advised where nothing is earned."""

import numpy as np
import pytest

from estheory.errors import ConfigError
from estheory.theory.economy.forecast import current_rate, outlook, windows
from estheory.theory.economy.ledger import ledger
from estheory.theory.economy.ledger_entry import LedgerRules, LoggedUpdate
from tests.theory.economy.quadratic_runs import es_run

RULES = LedgerRules(sigma=0.1, alpha=0.03, population=16, mirrored=True)


def updates_of(rows):
    return [
        LoggedUpdate(step=step, prompt_rewards=rewards, centre_rewards=centre, coefficients=z)
        for step, (rewards, centre, z, _) in enumerate(rows, start=1)
    ]


def test_forecasts_hold_the_later_reward():
    """95 % intervals, of runs that rise and flatten; every run is read at a quarter and at half of its way."""
    rng, inside = np.random.default_rng(1), []
    for _ in range(30):
        rows, path = es_run(rng, steps=40, members=16, prompts=16, alpha=0.03)
        level = np.mean([centre.mean() for _, centre, _, _ in rows]) - path[:-1].mean()  # prompts have levels
        for at in (10, 20):
            found = outlook(updates_of(rows), RULES, at=at, until=39)
            for p in found.predictions:
                low, high = p.law.interval(0.95)
                inside.append(low <= path[p.step] + level <= high)
    assert np.mean(inside) > 0.85


def test_a_rising_run_earns_and_a_control_slides():
    rng = np.random.default_rng(2)
    rows, _ = es_run(rng, steps=30, members=16, prompts=64, alpha=0.03, noise=0.1, spread=0.5)
    rising = outlook(updates_of(rows), RULES)
    assert rising.state == "earning"
    assert not rising.stop.advice
    assert rising.rate.from_ledger
    rows, _ = es_run(rng, steps=30, members=16, prompts=64, alpha=0.2, noise=0.1, spread=0.5, permuted=True)
    control = outlook(updates_of(rows), LedgerRules(sigma=0.1, alpha=0.2, population=16, mirrored=True))
    assert control.state == "sliding"
    assert control.stop.advice
    assert "upper end" in control.stop.because
    assert any(limit.startswith("cost") for limit in control.limits)


def test_stopping_has_a_price():
    rows, _ = es_run(np.random.default_rng(3), steps=30, members=16, prompts=64, alpha=0.03, noise=0.1, spread=0.5)
    assert outlook(updates_of(rows), RULES, worth=1.0).stop.advice


def test_a_flat_log_of_means_is_at_its_floor_and_a_short_one_is_undecided():
    rng = np.random.default_rng(4)
    curve = 1 - np.exp(-np.arange(80) / 8)
    rows = [
        LoggedUpdate(step=t, reward_mean=r + 0.002 * rng.standard_normal(), reward_std=0.1, norm=t**0.5, kl=0.01 * t)
        for t, r in enumerate(curve, start=1)
    ]
    found = outlook(rows, RULES)
    assert found.state == "floor"
    assert not found.rate.from_ledger
    assert any("upper bound" in limit for limit in found.limits)
    norms = {p.step: p.law.mean for p in found.predictions if p.quantity == "displacement_norm"}
    assert norms[120] == pytest.approx(120**0.5)
    cosines = [p.law.mean for p in found.predictions if p.quantity == "checkpoint_cosine"]
    assert cosines[-1] == pytest.approx((80 / 120) ** 0.5)
    kl = [p.law.mean for p in found.predictions if p.quantity == "kl_drift"]
    assert kl[-1] == pytest.approx(0.01 * 120)
    assert outlook(rows[:2], RULES).state == "undecided"
    assert current_rate(ledger(rows[:2], RULES)) is None


def test_what_limits_a_run():
    rng = np.random.default_rng(5)
    noise = [LoggedUpdate(step=t, prompt_rewards=rng.standard_normal((16, 8))) for t in range(1, 9)]
    assert any(limit.startswith("reliability") for limit in outlook(noise, RULES).limits)
    even = np.repeat(rng.standard_normal((8, 1)), 2, axis=0)
    curved = [LoggedUpdate(step=t, prompt_rewards=even + 0.1 * rng.standard_normal((16, 8))) for t in range(1, 9)]
    assert any(limit.startswith("even part") for limit in outlook(curved, RULES).limits)
    tied = [LoggedUpdate(step=t, reward_mean=0.5, reward_std=0.0) for t in range(1, 9)]
    assert any(limit.startswith("ties") for limit in outlook(tied, RULES).limits)


def test_a_ceiling_holds_the_forecast():
    rows = [LoggedUpdate(step=t, reward_mean=0.09 * t, reward_std=0.1) for t in range(1, 11)]
    bounded = [p.law.mean for p in outlook(rows, RULES, ceiling=1.0, until=30).predictions]
    assert max(bounded) <= 1.0
    assert outlook(rows, RULES, until=30).predictions[-1].law.mean > 1.0


def test_windows_and_refusals():
    rows = [LoggedUpdate(step=t, reward_mean=0.1, reward_std=0.1) for t in range(5, 25)]
    book = ledger(rows, RULES)
    parts = windows(book, 6)
    assert sum(map(len, parts)) == 20
    with pytest.raises(ConfigError, match="later --at"):
        outlook(rows, RULES, at=2)
    with pytest.raises(ConfigError, match="not after"):
        outlook(rows, RULES, until=20)


def test_a_long_run_is_quick():
    from time import process_time

    rng = np.random.default_rng(6)
    rows = [
        LoggedUpdate(step=t, prompt_rewards=rng.random((30, 200)), centre_rewards=rng.random(200))
        for t in range(1, 501)
    ]
    started = process_time()
    outlook(rows, LedgerRules(sigma=0.1, alpha=0.1, population=30, mirrored=True))
    assert process_time() - started < 3


def test_when_the_floor_comes():
    """A reward that nears its end by e in 20 steps, seen without noise: its rate is a quarter of the best in 28."""
    steps = np.arange(1, 121)
    rows = [LoggedUpdate(step=t, reward_mean=1 - np.exp(-t / 20), reward_std=0.1) for t in steps]
    for at in (20, 24):
        floor = outlook(rows, RULES, at=at).pace.floor_in
        assert at + floor == pytest.approx(30, abs=6)
    assert outlook(rows, RULES).pace.floor_in == 0
    growing = [LoggedUpdate(step=t, reward_mean=0.001 * t**2, reward_std=0.1) for t in steps[:20]]
    assert outlook(growing, RULES).pace.floor_in is None
    assert outlook(rows, RULES, at=20).pace.bound == "upper"
