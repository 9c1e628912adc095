"""Each fault, made on purpose, is named; a right rule and a right run raise none."""

import numpy as np
import pytest

from estheory.diagnosis.coefficients import direction_weights, explain_coefficients
from estheory.diagnosis.faults import explain_ratio, length_sentence, perturbation_faults, step_faults, walk_faults
from estheory.landscape import Signal
from estheory.rules import ESConfig
from estheory.theory.estimators import estimator_of
from estheory.theory.walk import walk

RULES = {
    "zscore": ESConfig(dim=400, sigma=0.02, population=30),
    "ranks": ESConfig(dim=400, sigma=0.02, population=30, shaping="centered-rank"),
    "raw": ESConfig(dim=400, sigma=0.02, population=30, shaping="raw"),
    "pairs": ESConfig(dim=400, sigma=0.02, population=30, antithetic=True),
    "two-point": ESConfig(dim=400, sigma=0.02, population=15, shaping="two-point"),
}


def rewards(rule, seed=0, scale=1.0):
    return 3.0 + scale * np.random.default_rng(seed).gamma(2.0, size=estimator_of(rule).evaluations)


@pytest.mark.parametrize("name", RULES)
def test_a_right_rule_raises_none(name):
    for seed in range(200):
        r = rewards(RULES[name], seed)
        found = explain_coefficients(r, direction_weights(r, RULES[name]), RULES[name])
        assert (found.right, found.text) == (True, "")


@pytest.mark.parametrize("name", RULES)
def test_every_factor_is_named(name):
    rule = RULES[name]
    r = rewards(rule)
    for fault in step_faults(rule):
        found = explain_coefficients(r, fault.factor * direction_weights(r, rule), rule)
        assert fault.name in {e.fault.name for e in found.scale}
        assert not found.right
        turned = explain_coefficients(r, -fault.factor * direction_weights(r, rule), rule)
        assert "sign is turned" in turned.text


def z(r, ddof=0):
    return (r - r.mean()) / r.std(ddof=ddof)


WRONG = {
    ("zscore", "sample standard deviation"): lambda r: z(r, 1),
    ("zscore", "not centred"): lambda r: r / r.std(),
    ("zscore", "not divided by their"): lambda r: r - r.mean(),
    ("zscore", "twice"): lambda r: (r - r.mean()) / r.var(),
    ("zscore", "centred ranks"): lambda r: r.argsort().argsort() / (len(r) - 1) - 0.5,
    ("zscore", "not centred stand"): lambda r: r.argsort().argsort() / (len(r) - 1),
    ("zscore", "member before"): lambda r: np.roll(z(r), -1),
    ("zscore", "reverse"): lambda r: z(r)[::-1],
    ("zscore", "sorted"): lambda r: z(np.sort(r)),
    ("zscore", "last member"): lambda r: np.append(z(r)[:-1], 0),
    ("zscore", "below the mean"): lambda r: np.maximum(z(r), 0),
    ("zscore", "softmax"): lambda r: np.exp(z(r)) / np.exp(z(r)).sum(),
    ("ranks", "not centred"): lambda r: r.argsort().argsort() / (len(r) - 1),
    ("ranks", "one argsort"): lambda r: r.argsort() / (len(r) - 1) - 0.5,
    ("ranks", "z-scores"): z,
    ("raw", "standard deviation, not by sigma"): z,
    ("raw", "not centred"): lambda r: r / 0.02,
    ("pairs", "sign of mirrored"): lambda r: z(r)[0::2] + z(r)[1::2],
    ("pairs", "positive sign"): lambda r: z(r)[0::2],
    ("pairs", "first half"): lambda r: z(r)[:15] - z(r)[15:],
    ("pairs", "not divided by their"): lambda r: (r - r.mean())[0::2] - (r - r.mean())[1::2],
    ("two-point", "sign of mirrored"): lambda r: (r[0::2] + r[1::2]) / 0.04,
    ("two-point", "positive sign"): lambda r: r[0::2] / 0.04,
}


@pytest.mark.parametrize(("name", "words"), WRONG, ids=lambda value: str(value).replace(" ", "-"))
def test_wrong_coefficients_are_named(name, words):
    r = rewards(RULES[name])
    assert words in explain_coefficients(r, WRONG[name, words](r), RULES[name]).text


def test_ties_tell_mean_ranks_from_ranks_by_order():
    r = np.array([0.0, 1.0, 1.0, 0.0, 1.0])
    rule = ESConfig(dim=3, sigma=0.1, population=5, shaping="centered-rank")
    ordered = np.argsort(np.argsort(r, kind="stable")) / 4 - 0.5
    assert "equal rewards" in explain_coefficients(r, ordered, rule).text


def test_what_no_candidate_makes_is_said():
    rule = RULES["zscore"]
    r = rewards(rule)
    for wrong in (np.random.default_rng(1).standard_normal(30), np.full(30, np.nan)):
        assert "no known fault" in explain_coefficients(r, wrong, rule).text
    assert "no known fault has this factor" in explain_coefficients(r, 1.37 * z(r), rule).text


def test_equal_rewards_do_not_move():
    rule = RULES["zscore"]
    assert explain_coefficients(np.ones(30), np.zeros(30), rule).right
    assert not explain_coefficients(np.ones(30), np.ones(30), rule).right


@pytest.mark.parametrize("name", ["zscore", "ranks", "pairs"])
def test_a_walk_of_the_wrong_length_is_named_and_a_right_one_is_not(name):
    """Norms drawn from the walk's law: at most 4 standard errors off in 200 runs but for a chance of 1.3 %."""
    rule, rng = RULES[name], np.random.default_rng(3)
    law = walk(rule, Signal(), 25).norm_law
    faults = walk_faults(rule, 25)
    norms = law.sample(rng, 200)
    assert not any(explain_ratio(x / law.mean, law.std / law.mean, faults) for x in norms)
    for fault in faults:
        if abs(np.log(fault.factor)) > 8 * law.std / law.mean:
            found = explain_ratio(fault.factor * norms[0] / law.mean, law.std / law.mean, faults)
            assert fault.name in {e.fault.name for e in found}


def test_a_walk_with_memory_knows_what_leaving_it_out_does():
    rule = ESConfig(dim=400, sigma=0.02, population=30, momentum=0.9)
    plain = ESConfig(dim=400, sigma=0.02, population=30)
    ratio = walk(plain, Signal(), 50).norm_law.mean / walk(rule, Signal(), 50).norm_law.mean
    assert "memory" in explain_ratio(ratio, 1e-3, walk_faults(rule, 50))[0].fault.name


def test_perturbations():
    rule = ESConfig(dim=400, sigma=0.02, population=30, noise="low-rank:4")
    for ratio, words in (
        (0.02, "sigma^2"),
        (50, "sigma is missing"),
        (2, "1/sqrt(rank) is missing"),
        (0.57735, "[0, 1]"),
    ):
        assert any(words in e.fault.name for e in explain_ratio(ratio, 1e-3, perturbation_faults(rule)))


def test_what_never_moved_is_said():
    assert "nothing moved" in length_sentence(0.0, ())


@pytest.mark.parametrize("population", [2, 3, 4, 5])
def test_small_populations_have_candidates(population):
    """Two members make no rule of mirrored pairs to compare with."""
    found = {fault.name for fault in walk_faults(ESConfig(dim=400, sigma=0.02, population=population), 2)}
    assert any("1/N is missing" in name for name in found)
    assert any("members are mirrored" in name for name in found) == (population == 4)
