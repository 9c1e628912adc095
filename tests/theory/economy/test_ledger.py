"""The ledger adds up to what a run's reward did, by brute force; permuted coefficients earn nothing."""

import math

import numpy as np
import pytest

from estheory.errors import DataError
from estheory.theory.economy.ledger import ledger
from estheory.theory.economy.ledger_entry import LedgerRules, LoggedUpdate
from tests.statistics import Z, agrees
from tests.theory.economy.quadratic_runs import es_run
from tests.variants import variants

ALPHA, MEMBERS, STEPS = 0.03, 16, 12


def read(rows, *, mirrored, halves=False, partners=False, coefficients=True):
    updates = []
    for step, (rewards, centre, z, mirror) in enumerate(rows, start=1):
        half = rewards[:, : rewards.shape[1] // 2].mean(axis=1)
        updates.append(
            LoggedUpdate(
                step=step,
                coefficients=z if coefficients else None,
                **(
                    {"rewards": rewards.mean(axis=1), "half_rewards": half, "prompts": rewards.shape[1]}
                    if halves
                    else {"prompt_rewards": rewards}
                ),
                centre_rewards=None if halves else centre,
                centre_reward=centre.mean() if halves else None,
                mirror_rewards=mirror if partners else None,
            )
        )
    return ledger(updates, LedgerRules(sigma=0.1, alpha=ALPHA, population=MEMBERS, mirrored=mirrored))


def totals(replicas, *, mirrored=True, permuted=False, **how):
    """Net total, its error, and the true change, of each replica."""
    rng, found = np.random.default_rng(1), []
    for _ in range(replicas):
        rows, path = es_run(rng, steps=STEPS, members=MEMBERS, alpha=ALPHA, mirrored=mirrored, permuted=permuted)
        book = read(rows, mirrored=mirrored, **how)
        net = book.total("net")
        found.append((net.value, net.stderr, path[-1] - path[0], book.total("earned").value))
    return np.array(found).T


def test_earned_less_paid_is_the_change_of_the_reward_and_its_error_is_honest():
    net, error, change, earned = totals(200)
    # what is left out is the curvature along the gradient: of the order of alpha^2 times the reliability
    assert abs((net - change).mean()) < Z * (net - change).std() / math.sqrt(200) + 0.03 * earned.mean()
    spread = ((net - change) / error).std()
    assert 0.8 < spread < 1.2
    assert abs((earned - change).mean()) > 0.03 * earned.mean()  # control: nothing paid


@pytest.mark.parametrize("halves", [False, True])
def test_permuted_coefficients_earn_nothing(halves):
    _, _, _, earned = totals(80, permuted=True, halves=halves)
    assert agrees(earned, 0.0)
    _, _, _, real = totals(80, halves=halves)
    assert not agrees(real, 0.0)


def test_without_pairs_the_sum_is_an_upper_bound_and_partners_make_it_the_change():
    net, _, change, _ = totals(40, mirrored=False)
    assert (net - change).mean() > 0.3 * change.mean()
    with_partners, _, change, earned = totals(100, mirrored=False, partners=True)
    error = (with_partners - change).std() / math.sqrt(change.size)
    assert abs((with_partners - change).mean()) < Z * error + 0.03 * earned.mean()
    _, _, _, control = totals(80, mirrored=False, partners=True, permuted=True)
    assert agrees(control, 0.0)


def partly(rows, every):
    """A run of independent members whose partners and centre were evaluated in one step of some."""
    updates = []
    for step, (rewards, centre, z, mirror) in enumerate(rows, start=1):
        watched = (step - 1) % every == 0
        updates.append(
            LoggedUpdate(
                step=step,
                coefficients=z,
                prompt_rewards=rewards,
                centre_rewards=centre if watched else None,
                mirror_rewards=mirror if watched else None,
            )
        )
    return ledger(updates, LedgerRules(sigma=0.1, alpha=ALPHA, population=MEMBERS))


@pytest.mark.parametrize("every", variants([3, 4], fast={3}))
def test_partners_in_some_steps_tell_the_odd_share_of_all(every):
    rng, found = np.random.default_rng(7), []
    for _ in range(120):
        rows, path = es_run(rng, steps=STEPS, members=MEMBERS, alpha=ALPHA, mirrored=False)
        book = partly(rows, every)
        assert (book.bound, book.centred) == (None, True)
        net = book.total("net")
        found.append((net.value, net.stderr, path[-1] - path[0], book.total("earned").value))
    net, error, change, earned = np.array(found).T
    off = net - change
    assert abs(off.mean()) < Z * off.std() / math.sqrt(off.size) + 0.03 * earned.mean()
    assert 0.7 < (off / error).std() < 1.3
    bound, _, rise, _ = totals(40, mirrored=False)  # control: without partners
    assert (bound - rise).mean() > 5 * abs(off.mean())
    permuted = []
    for _ in range(120):
        rows, _ = es_run(rng, steps=STEPS, members=MEMBERS, alpha=ALPHA, mirrored=False, permuted=True)
        total = partly(rows, every).total("earned")
        permuted.append((total.value, total.stderr))
    values, errors = np.array(permuted).T
    assert agrees(values, 0.0)
    assert (values / errors).std() < 1.3


def test_one_centre_says_nothing_of_other_steps_and_rewards_are_of_one_kind():
    rng = np.random.default_rng(8)
    rows = [
        LoggedUpdate(step=t, prompt_rewards=rng.random((16, 8)), centre_rewards=rng.random(8) + 5.0 if t == 2 else None)
        for t in (1, 2, 3)
    ]
    found = ledger(rows, LedgerRules(sigma=0.1, alpha=0.1, population=16))
    assert [math.isnan(entry.paid) for entry in found.entries] == [True, False, True]
    assert not found.centred
    assert max(entry.reward for entry in found.entries) < 1


def test_halves_of_the_prompts_tell_the_noise_too():
    net, _, change, earned = totals(150, halves=True)
    error = (net - change).std() / math.sqrt(change.size)
    assert abs((net - change).mean()) < Z * error + 0.03 * earned.mean()


def test_means_alone_are_a_bound():
    rows = [LoggedUpdate(step=t, reward_mean=0.1 * t, reward_std=0.05) for t in (1, 2, 3)]
    found = ledger(rows, LedgerRules(sigma=0.1, alpha=0.05, population=30))
    assert found.bound == "upper"
    assert found.total("earned").value == pytest.approx(3 * 0.5 * 0.05)
    assert math.isnan(found.total("paid").value)
    assert found.risen().value == pytest.approx(0.2)


def test_equal_rewards_earn_and_pay_nothing():
    same = np.ones((16, 8))
    found = ledger(
        [LoggedUpdate(step=1, prompt_rewards=same, centre_rewards=np.ones(8))],
        LedgerRules(sigma=0.1, alpha=0.1, population=16, mirrored=True),
    )
    assert found.total("net").value == 0


def test_the_weights_between_the_ends_are_those_of_the_measured_change():
    rng = np.random.default_rng(2)
    gains = rng.standard_normal(40)
    reward = np.concatenate([[0.0], np.cumsum(gains)])[:-1]
    rows = [LoggedUpdate(step=t + 1, reward_mean=r, reward_std=1.0) for t, r in enumerate(reward)]
    found = ledger(rows, LedgerRules(sigma=1.0, alpha=1.0, population=4))
    assert found.between_ends() @ gains == pytest.approx(found.risen().value)


def test_refusals():
    rules = LedgerRules(sigma=0.1, alpha=0.1, population=16)
    with pytest.raises(DataError, match="no update"):
        ledger([], rules)
    with pytest.raises(DataError, match="step 3: 2 members"):
        ledger([LoggedUpdate(step=3, rewards=np.ones(2))], rules)
    with pytest.raises(DataError, match="no reward"):
        ledger([LoggedUpdate(step=3)], rules)
