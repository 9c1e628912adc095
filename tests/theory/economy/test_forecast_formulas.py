"""Forecasts against their law, written out here from docs/concepts/economy.md: no sampling, every term counts."""

import math

import numpy as np
import pytest
from scipy.stats import t as student

from estheory.laws import CutNormalLaw
from estheory.theory.economy.forecast import _limits as limits_of
from estheory.theory.economy.forecast import outlook
from estheory.theory.economy.later_steps import HeldOutReward
from estheory.theory.economy.ledger import Ledger, ledger
from estheory.theory.economy.ledger_entry import Entry, LedgerRules, LoggedUpdate
from estheory.theory.economy.rate import current_rate, recent_weights
from tests.theory.economy.quadratic_runs import es_run

RULES = LedgerRules(sigma=0.1, alpha=0.05, population=16, mirrored=True)


def run_of(seed=1, steps=24, *, mirrored=True, scale=1.0, at=0.5, **given):
    """Rows of a run whose rewards are brought near ``at``, those of an independent one with partners in each row."""
    rows, _ = es_run(np.random.default_rng(seed), steps=steps, dim=60, alpha=0.05, mirrored=mirrored, **given)
    updates = []
    for step, (rewards, centre, z, partners) in enumerate(rows, start=1):
        updates.append(
            LoggedUpdate(
                step=step,
                prompt_rewards=at + scale * rewards,
                centre_rewards=at + scale * centre,
                mirror_rewards=None if mirrored else at + scale * partners,
                coefficients=z,
                norm=0.02 * math.sqrt(step) * (1 + 0.01 * math.sin(step)),
                kl=0.003 * step,
            )
        )
    return updates


def weights(count):
    """exp(-age / (T/8)), at least 5 rows, of sum 1."""
    found = np.array([math.exp(-(count - 1 - k) / max(5.0, count / 8)) for k in range(count)])
    return found / found.sum()


def column(book, name):
    return np.array([getattr(entry, name) for entry in book.entries])


def reward_law(book, rules, step, low, high, start=None):
    """Location and scale of the reward at a step."""
    w, count, now = weights(len(book.entries)), len(book.entries), book.entries[-1].step
    rate = w @ column(book, "net")
    rate_variance = w**2 @ column(book, "net_stderr") ** 2
    q_slope = w @ (column(book, "walk") * column(book, "member_variance") * column(book, "odd_share")) / rules.sigma**2
    q_slope = max(q_slope, 0.0)
    carried = column(book, "reward") + rate * (now + 1 - column(book, "step"))
    level = w @ carried
    level_variance = w**2 @ (carried - level) ** 2 / (1 - w @ w)
    if start is not None:
        level, level_variance = start
    level = min(max(level, low), high)
    ahead = step - now
    slowed = count * (1 - math.exp(-ahead / count))
    change, left = rate * slowed, 1.0
    room = (high - level) if change > 0 else (level - low)
    if math.isfinite(room):
        left = math.exp(-abs(change) / room)
        change = math.copysign(room * (1 - left), change)
    by_rate = (rate_variance + q_slope * (w @ w)) * (slowed * left) ** 2
    return level + change, math.sqrt(level_variance + by_rate + (change / 2) ** 2 + q_slope * ahead)


def told(found, quantity):
    return {p.step: p.law for p in found.predictions if p.quantity == quantity}


@pytest.mark.parametrize("permuted", [False, True])
def test_the_reward_without_ends(permuted):
    updates = run_of(permuted=permuted)
    laws = told(outlook(updates, RULES, until=44), "centre_reward")
    book = ledger(updates, RULES)
    assert sorted(laws) == [29, 34, 44]
    for step, law in laws.items():
        mean, std = reward_law(book, RULES, step, -math.inf, math.inf)
        assert law.mean == pytest.approx(mean, rel=1e-12)
        assert law.std == pytest.approx(std, rel=1e-12)
    steps = sorted(told(outlook(updates, RULES), "centre_reward"))
    assert steps == [27, 30, 36]  # half as many again


@pytest.mark.parametrize(("scale", "at"), [(0.2, 0.6), (-0.2, 0.3), (0.2, 1.4)])
def test_the_reward_between_its_ends(scale, at):
    """A run that rises, one that falls (rewards and coefficients of other sign), and one whose level is beyond 1."""
    updates = run_of(scale=scale, at=at)
    book = ledger(updates, RULES)
    for step, law in told(outlook(updates, RULES, until=44, floor=0.0, ceiling=1.0), "centre_reward").items():
        if at > 1:
            assert law.interval(0.95)[1] <= 1
            continue
        location, spread = reward_law(book, RULES, step, 0.0, 1.0)
        assert isinstance(law, CutNormalLaw)
        assert (law.location, law.scale) == pytest.approx((location, spread), rel=1e-12)
        assert (law.low, law.high) == (0.0, 1.0)


def test_what_random_updates_did_of_late_is_in_the_rate():
    """A linear reward without noise whose coefficients are permuted: only chance moves it, and the rate holds it.

    Its law without what chance did to the rate (the control) is narrower by a tenth.
    """
    rng, theta, updates = np.random.default_rng(3), np.zeros(40), []
    for step in range(1, 25):
        eps = np.repeat(rng.standard_normal((8, 40)), 2, axis=0)
        eps[1::2] *= -1
        means = theta[0] + 0.1 * eps[:, 0]
        z = rng.permutation((means - means.mean()) / means.std())
        prompts = np.linspace(-1, 1, 8)
        updates.append(
            LoggedUpdate(
                step=step,
                prompt_rewards=means[:, None] + prompts,
                centre_rewards=theta[0] + prompts,
                coefficients=z,
            )
        )
        theta = theta + 0.05 / 16 * z @ eps
    book, w = ledger(updates, RULES), weights(24)
    law = told(outlook(updates, RULES, until=48), "centre_reward")[48]
    assert law.std == pytest.approx(reward_law(book, RULES, 48, -math.inf, math.inf)[1], rel=1e-9)
    q = w @ [0.05**2 / 16**2 * np.sum((u.coefficients[0::2] - u.coefficients[1::2]) ** 2) for u in updates]
    slowed = 24 * (1 - math.exp(-1.0))
    chance = q * (w @ w) * slowed**2
    assert law.std**2 - chance < 0.9**2 * law.std**2


def test_held_out_prompts_start_from_their_last_evaluation():
    updates = run_of(scale=0.2, at=0.6)
    book = ledger(updates, RULES)
    for evaluated in (0, 16, 24):
        seen = HeldOutReward(step=evaluated, value=0.4, stderr=0.03)
        found = outlook(updates, RULES, until=44, floor=0.0, ceiling=1.0, held_out=seen)
        since = column(book, "step") > evaluated
        level = 0.4 + column(book, "net")[since].sum(), 0.03**2 + (column(book, "net_stderr")[since] ** 2).sum()
        for step, law in told(found, "accuracy").items():
            location, spread = reward_law(book, RULES, step, 0.0, 1.0, level)
            assert (law.location, law.scale) == pytest.approx((location, spread), rel=1e-12)
    only_means = [LoggedUpdate(step=t, reward_mean=0.01 * t, reward_std=0.1) for t in range(1, 11)]
    assert not told(outlook(only_means, RULES, held_out=HeldOutReward(step=0, value=0.1, stderr=0.01)), "accuracy")


def test_the_rate_by_the_ledger():
    book = ledger(run_of(), RULES)
    w = weights(24)
    assert recent_weights(24) == pytest.approx(w)
    assert recent_weights(80)[-1] / recent_weights(80)[-11] == pytest.approx(math.e)  # 80 / 8
    rate = current_rate(book)
    assert rate.from_ledger
    assert rate.found.value == pytest.approx(w @ column(book, "net"))
    stderr = math.sqrt(w**2 @ column(book, "net_stderr") ** 2)
    assert rate.found.high - rate.found.value == pytest.approx(student.ppf(0.975, 1 / (w @ w)) * stderr)


@pytest.mark.parametrize("count", [4, 7, 12, 60, 120])
def test_the_rate_by_the_slope_of_the_last_rows(count):
    rng = np.random.default_rng(count)
    rewards = 0.01 * np.arange(count) + 0.02 * rng.standard_normal(count)
    book = ledger([LoggedUpdate(step=k + 1, reward_mean=r, reward_std=0.1) for k, r in enumerate(rewards)], RULES)
    last = max(4, min(count, 2 * round(max(5.0, count / 8))))
    (slope, level), covariance = np.polyfit(np.arange(last), rewards[-last:], 1, cov=True)
    found = current_rate(book).found
    assert found.value == pytest.approx(slope)
    assert found.stderr == pytest.approx(math.sqrt(covariance[0, 0]))
    assert found.high - found.value == pytest.approx(student.ppf(0.975, last - 2) * found.stderr)
    assert level == pytest.approx(np.polyval([slope, level], 0))


def test_the_rate_is_at_most_what_is_earned_where_its_cost_is_not_known():
    updates = [
        LoggedUpdate(step=u.step, prompt_rewards=u.prompt_rewards + 0.2 * u.step, coefficients=u.coefficients)
        for u in run_of()
    ]  # rewards that rise by more than updates earn
    book, w = ledger(updates, RULES), weights(24)
    rate = current_rate(book)
    assert not rate.from_ledger
    earned, stderr = w @ column(book, "earned"), math.sqrt(w**2 @ column(book, "earned_stderr") ** 2)
    reach = student.ppf(0.975, 1 / (w @ w)) * stderr
    assert (rate.found.value, rate.found.low, rate.found.high) == pytest.approx(
        (earned, earned - reach, earned + reach)
    )


def drift(updates, rules, until):
    """Squared norm and its standard deviation at each step, from the walks of the ledger and the logged norms."""
    book = ledger(updates, rules)
    walk, norm = column(book, "walk"), np.array([u.norm for u in updates])
    w, count, at = weights(len(walk)), len(walk), len(walk)
    odd, even = (w @ column(book, name) for name in ("odd_share", "even_share"))
    slowing = 0.0
    rate = current_rate(book)
    if rules.mirrored and rate.found.low > 0:
        odd, even = min(max(odd, 0.0), 0.99), max(even, 0.0)
        slowing = 1 - max(1 - even / (1 - odd), 0.0) / max(1 + odd - even, 0.01)
    back = max(4, at // 2 + 1)
    past = walk[at - back + 1 :].sum()  # of the updates between the rows that are read
    growth = (norm[-1] ** 2 - norm[-back] ** 2) / past
    found = {}
    for step in until:
        ahead = step - at
        slowed = count * (1 - math.exp(-ahead / count))
        now = w @ walk
        mean = now * (ahead * (1 - slowing) + slowing * slowed)
        error = math.hypot(
            walk.std(ddof=1) * math.sqrt(ahead + ahead**2 * (w @ w)), now * slowing * max(slowed, ahead - slowed) / 2
        )
        middle = np.mean(norm[-back:] ** 2)
        own = 4 * norm[-1] ** 2 * mean + 2 * abs(growth) * mean**2
        own += (mean / past) ** 2 * (4 * middle * past + 2 * abs(growth) * past**2)
        each = np.diff(norm[-back:] ** 2) - growth * walk[at - back + 1 :]
        scatter = each.var(ddof=1) * (ahead + ahead**2 / (back - 1))
        found[step] = norm[-1] ** 2 + growth * mean, math.sqrt(max(own, scatter) + (growth * error) ** 2)
    return found


@pytest.mark.parametrize("kind", ["rises", "control", "independent", "few digits"])
def test_norm_cosine_and_kl(kind):
    mirrored = kind != "independent"
    rules = RULES if mirrored else LedgerRules(sigma=0.1, alpha=0.05, population=16)
    updates = run_of(mirrored=mirrored, permuted=kind == "control", noise=0.05, spread=0.3)
    if kind == "few digits":
        updates = [
            LoggedUpdate(**{**vars(u), "norm": math.sqrt(25 + 0.0004 * u.step + (-1.0) ** u.step)}) for u in updates
        ]
    found = outlook(updates, rules, until=44)
    if kind == "rises":
        assert found.rate.found.low > 0
    expected = drift(updates, rules, (29, 34, 44))
    norms, cosines, kls = (told(found, name) for name in ("displacement_norm", "checkpoint_cosine", "kl_drift"))
    assert sorted(norms) == sorted(cosines) == sorted(kls) == [29, 34, 44]
    here, kl = updates[-1].norm ** 2, updates[-1].kl
    for step, (square, error) in expected.items():
        assert norms[step].mean == pytest.approx(math.sqrt(square), rel=1e-9)
        assert norms[step].std == pytest.approx(error / (2 * math.sqrt(square)), rel=1e-9)
        cosine = math.sqrt(here / square)
        assert cosines[step].mean == pytest.approx(min(cosine, 1.0), rel=1e-9)
        assert cosines[step].std == pytest.approx(cosine * error / (2 * square), rel=1e-9)
        factor = square / here
        assert kls[step].mean == pytest.approx(kl * factor, rel=1e-9)
        assert kls[step].std == pytest.approx(kl * (error / here + 0.5 * (factor - 1)), rel=1e-9)


def test_no_norm_is_foretold_from_few_rows_or_of_a_run_that_stands():
    updates = run_of()
    few = [LoggedUpdate(**{**vars(u), "norm": u.norm if u.step > 21 else None}) for u in updates]
    assert not told(outlook(few, RULES), "displacement_norm")
    enough = [LoggedUpdate(**{**vars(u), "norm": u.norm if u.step > 20 else None}) for u in updates]
    assert told(outlook(enough, RULES), "displacement_norm")
    tied = [LoggedUpdate(step=t, reward_mean=0.5, reward_std=0.0, norm=2.0) for t in range(1, 11)]
    for law in told(outlook(tied, RULES), "displacement_norm").values():
        assert (law.mean, law.std) == (2.0, 0.0)


def smooth(count, time=20.0):
    return [LoggedUpdate(step=t, reward_mean=1 - math.exp(-t / time), reward_std=0.1) for t in range(1, count + 1)]


@pytest.mark.parametrize("count", [12, 16, 21, 40])
def test_when_the_floor_comes_as_the_rate_falls(count):
    """The rate falls by e over the second half of the rows as it fell; the floor is a quarter of the best tenth."""
    found = outlook(smooth(count), RULES)
    half = smooth((count + 1) // 2)
    before, now = (current_rate(ledger(rows, RULES)).found.value for rows in (half, smooth(count)))
    rewards = np.array([u.reward_mean for u in smooth(count)])
    width = max(2, count // 10)
    blocks = [part.mean() for part in np.array_split(rewards, max(2, count // width))]
    floor = 0.25 * np.max(np.abs(np.diff(blocks))) / width
    if found.state == "floor":
        assert found.pace.floor_in == 0
    else:
        by_e = (count - len(half)) / math.log(before / now)
        assert found.pace.floor_in == max(0, math.ceil(by_e * math.log(now / floor)))


def limits(**given):
    """What limits a run of these shares of the members' variance, by rows that are alike."""
    shares = {"reliability": 0.8, "odd_share": 0.5, "even_share": 0.3, "earned": 0.02, "paid": 0.001, "tied": False}
    rows = [
        Entry(
            step=step, earned_stderr=0.001, paid_stderr=0.001, reward=0.5, reward_stderr=0.01, member_variance=0.01,
            walk=1e-4, bound=None, **{name: value[step % len(value)] if isinstance(value, list) else value
                                      for name, value in {**shares, **given}.items()},
        )
        for step in range(1, 101)
    ]  # fmt: skip
    return [limit.partition(":")[0] for limit in limits_of(Ledger(entries=tuple(rows), centred=True))]


def test_limits_and_where_they_begin():
    assert limits() == []
    assert limits(reliability=0.49) == ["reliability"]
    assert limits(reliability=0.51) == []
    assert limits(even_share=0.51) == ["even part"]
    assert limits(even_share=0.5) == []
    assert limits(paid=0.0101) == ["cost"]
    assert limits(paid=0.0099) == []
    assert limits(earned=-0.02, paid=-0.001) == []  # nothing is paid
    assert limits(paid=math.nan) == ["unknown"]
    assert limits(tied=[True] + 7 * [False]) == ["ties"]
    assert limits(tied=[True] + 24 * [False]) == []


def test_states_and_their_width():
    """A flat log is at its floor where its rate is known to within a quarter of the best it had, else undecided."""
    for noise, state in ((0.001, "floor"), (0.2, "undecided")):
        rewards = np.concatenate([np.linspace(0, 1, 20), np.ones(40)]) + noise * (-1.0) ** np.arange(60)
        rows = [LoggedUpdate(step=k + 1, reward_mean=r, reward_std=0.1) for k, r in enumerate(rewards)]
        assert outlook(rows, RULES).state == state
    falls = [LoggedUpdate(step=k + 1, reward_mean=-0.1 * k, reward_std=0.1) for k in range(10)]
    assert (outlook(falls, RULES).state, outlook(falls, RULES).pace.floor_in) == ("sliding", 0)
    rises = [LoggedUpdate(step=k + 1, reward_mean=0.1 * k, reward_std=0.1) for k in range(10)]
    assert outlook(rises, RULES).state == "earning"
    assert not outlook(rises, RULES, worth=0.0999).stop.advice
    assert outlook(rises, RULES, worth=0.1001).stop.advice
