"""Forecasts hold what comes, the state is the state, and stopping is advised where nothing is earned."""

import numpy as np
import pytest

from estheory.errors import ConfigError
from estheory.theory.economy.forecast import outlook, windows
from estheory.theory.economy.later_steps import HeldOutReward
from estheory.theory.economy.ledger import ledger
from estheory.theory.economy.ledger_entry import LedgerRules, LoggedUpdate
from estheory.theory.economy.rate import current_rate
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
                if p.quantity == "reward_peak_step":
                    continue
                low, high = p.law.interval(0.95)
                inside.append(low <= path[p.step] + level <= high)
    assert np.mean(inside) > 0.85


def test_held_out_rewards_are_foretold_from_where_they_were():
    """Prompts that no update sees are on a level of their own: 95 % intervals hold theirs, and the centre's do not."""
    rng, inside, centred = np.random.default_rng(14), [], []
    for _ in range(30):
        rows, path = es_run(rng, steps=40, members=16, prompts=16, alpha=0.03)
        own = path - 1.0 + 0.02 * rng.standard_normal(path.size)
        for at, evaluated in ((20, 20), (20, 10)):
            seen = HeldOutReward(step=evaluated, value=own[evaluated], stderr=0.02)
            found = outlook(updates_of(rows), RULES, at=at, until=39, held_out=seen)
            for p in found.predictions:
                low, high = p.law.interval(0.95)
                if p.quantity == "accuracy":
                    inside.append(low <= own[p.step] <= high)
                elif p.quantity == "centre_reward":
                    centred.append(low <= own[p.step] <= high)
    assert len(inside) == len(centred) == 180
    assert np.mean(inside) > 0.85
    assert np.mean(centred) < 0.5
    assert not any(p.quantity == "accuracy" for p in outlook(updates_of(rows), RULES, at=20).predictions)


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


def test_no_interval_of_a_reward_leaves_what_there_can_be():
    """0/1 rewards of a run near its end, and of one that falls to nothing."""
    rng = np.random.default_rng(8)
    for slope in (0.02, -0.02):
        levels = 0.5 + slope * np.arange(1, 21)
        rows = [
            LoggedUpdate(step=t, reward_mean=float(np.mean(rng.random(256) < level)), reward_std=0.1)
            for t, level in enumerate(levels, start=1)
        ]
        for p in outlook(rows, RULES, floor=0.0, ceiling=1.0, until=60).predictions:
            low, high = p.law.interval(0.95)
            assert 0 <= low < high <= 1
            assert low < p.law.mean < high
        free = outlook(rows, RULES, until=60).predictions[-1].law.interval(0.95)
        assert min(free) < 0 or max(free) > 1  # what the ends are for


def test_random_updates_move_the_reward_by_what_the_gradient_says():
    """A control wanders: the square of its steps is walk ||g||^2, and a forecast 40 steps on holds it.

    40 runs of a linear reward whose coefficients are permuted; 5 % level, 95 % interval, seen from step 20.
    """
    rng, d, members, sigma, alpha = np.random.default_rng(9), 40, 16, 0.1, 0.1
    gradient = np.zeros(d)
    gradient[0] = 1.0
    off, spreads = [], []
    for _ in range(40):
        theta, rows, path = np.zeros(d), [], []
        for step in range(1, 61):
            eps = np.repeat(rng.standard_normal((members // 2, d)), 2, axis=0)
            eps[1::2] *= -1
            means = (theta + sigma * eps) @ gradient
            rewards = means[:, None] + 0.02 * rng.standard_normal((members, 8))
            z = rng.permutation((means - means.mean()) / means.std())
            centre = theta @ gradient + 0.02 * rng.standard_normal(8)
            path.append(float(theta @ gradient))
            rows.append(LoggedUpdate(step=step, prompt_rewards=rewards, centre_rewards=centre, coefficients=z))
            theta = theta + alpha / members * z @ eps
        rules = LedgerRules(sigma=sigma, alpha=alpha, population=members, mirrored=True)
        last = outlook(rows, rules, at=20, until=59).predictions[2].law
        off.append(path[59] - last.mean)
        spreads.append(last.std)
    square = float(np.mean(np.square(off)) / np.mean(np.square(spreads)))
    assert 0.4 < square < 1.8  # of 40 squares of normal variables 1 +- 0.22
    assert np.mean(np.square(off)) > alpha**2 / members * 39 / 2  # as random steps alone would have it


def test_norms_of_mirrored_runs_and_controls_are_foretold():
    """The length of a walk in 300 coordinates, read at a quarter and half of its way: 95 % intervals hold it."""
    rng, d, members = np.random.default_rng(10), 300, 16
    inside = []
    for permuted in (False, True):
        for _ in range(15):
            theta, rows, norms = np.zeros(d), [], []
            for step in range(1, 41):
                eps = np.repeat(rng.standard_normal((members // 2, d)), 2, axis=0)
                eps[1::2] *= -1
                effect = 0.3 * np.tanh(eps[:, :1] * 0.5) * np.exp(-step / 15) + 0.05 * (eps[:, 1:2] ** 2 - 1)
                rewards = effect + 0.2 * rng.standard_normal((members, 16))
                means = rewards.mean(axis=1)
                z = (means - means.mean()) / means.std()
                z = rng.permutation(z) if permuted else z
                theta = theta + 0.03 / members * z @ eps
                norms.append(float(np.linalg.norm(theta)))
                centre = np.full(16, 0.3 * (1 - np.exp(-step / 15))) + 0.2 * rng.standard_normal(16)
                rows.append(
                    LoggedUpdate(
                        step=step, prompt_rewards=rewards, centre_rewards=centre, coefficients=z, norm=norms[-1]
                    )
                )
            for at in (10, 20):
                for p in outlook(rows, RULES, at=at, until=40).predictions:
                    if p.quantity == "displacement_norm":
                        low, high = p.law.interval(0.95)
                        inside.append(low <= norms[p.step - 1] <= high)
    assert np.mean(inside) > 0.85


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
