"""Right estimators pass, wrong ones fail and are named, broken ones fail in words."""

import time

import numpy as np
import pytest

from estheory.errors import ConfigError
from estheory.rules import ESConfig
from estheory.testing import check_shaping, check_step, check_update, checks
from tests.testing.estimators import (
    ALPHA,
    DIM,
    RIGHT_SHAPINGS,
    RIGHT_STEPS,
    RIGHT_UPDATES,
    RULE,
    RULES,
    WRONG_SHAPINGS,
    WRONG_STEPS,
    WRONG_UPDATES,
    N,
    right_step,
    z,
)

SLOW = {"raw", "two-point", "pairs", "anchor", "low rank", "momentum", "re-seeded"}


def some(names):
    return [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in names]


@pytest.mark.parametrize("name", some(RIGHT_SHAPINGS))
def test_right_shapings_pass(name):
    check_shaping(RIGHT_SHAPINGS[name], rule=RULES[name])


@pytest.mark.parametrize("name", some(RIGHT_UPDATES))
def test_right_updates_pass(name):
    check_update(RIGHT_UPDATES[name], rule=RULES[name])


@pytest.mark.parametrize("name", some(RIGHT_STEPS))
def test_right_steps_pass(name):
    step, rule, shapes = RIGHT_STEPS[name]
    check_step(step, rule=rule, shapes=shapes)


def failure(check, *arguments, **keywords):
    with pytest.raises(AssertionError) as caught:
        check(*arguments, **keywords)
    assert caught.value.__cause__ is None
    return str(caught.value)


def first_problem(estimator, **keywords):
    """The message of the first check that fails: the others are not waited for."""
    return next(o.problem for o in (check.outcome() for check in checks(estimator, **keywords)) if not o.holds)


def ids(value):
    return str(value).replace(" ", "-")


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize(("name", "words"), WRONG_SHAPINGS, ids=ids)
def test_wrong_shapings_are_named(name, words):
    assert words in first_problem(WRONG_SHAPINGS[name, words], rule=RULES[name], kind="shaping")


@pytest.mark.parametrize(("name", "words"), WRONG_UPDATES, ids=ids)
def test_wrong_updates_are_named(name, words):
    assert words in first_problem(WRONG_UPDATES[name, words], rule=RULES[name])


@pytest.mark.parametrize("words", WRONG_STEPS, ids=ids)
def test_wrong_steps_are_named(words):
    step, rule, shapes = WRONG_STEPS[words]
    assert words in first_problem(step, rule=rule, kind="step", shapes=shapes)


def broken(r, e):
    raise RuntimeError("out of memory")


BROKEN = {
    "returned None": lambda r, e: None,
    "shape (63,)": lambda r, e: (z(r) @ e)[:-1],
    "shape (30, 64)": lambda r, e: z(r)[:, None] * e,
    "nan": lambda r, e: np.log(-1.0 - np.abs(z(r) @ e)),
    "raised RuntimeError: out of memory (test_checks.py, line": broken,
    "raised TypeError": lambda r: r,
    "a dict": lambda r, e: {"delta": z(r) @ e},
    "real numbers": lambda r, e: (z(r) @ e).astype(complex),
    "different results": lambda r, e: z(r) @ e + np.random.default_rng().standard_normal(DIM),
    "changed in place": lambda r, e: ALPHA / N * z(np.subtract(r, r.mean(), out=r)) @ e,
}


@pytest.mark.parametrize("words", BROKEN, ids=ids)
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_broken_updates_fail_in_words(words):
    assert words in failure(check_update, BROKEN[words], rule=RULE)


def test_broken_steps_fail_in_words():
    for words, step in {
        "returned None": lambda theta, reward, seed: None,
        "evaluates 0 members": lambda theta, reward, seed: theta,
        "raised ZeroDivisionError": lambda theta, reward, seed: 1 / 0,
        "caller returned shape (30, 64)": lambda theta, reward, seed: reward(np.tile(theta, (30, 1))),
    }.items():
        assert words in failure(check_step, step, rule=RULE)
    rule, shapes = ESConfig(dim=96, sigma=0.1, population=4), ((4, 8), (32,), (8, 4))
    assert "2 parts" in failure(check_step, lambda theta, reward, seed: theta[:2], rule=rule, shapes=shapes)


def test_the_message_has_the_smallest_example_the_figures_and_the_other_failures():
    message = failure(check_update, lambda r, e: ALPHA * z(r) @ e, rule=RULE)
    assert "'definition' fails" in message
    assert "[1, 0 (29 times)]" in message
    assert "30 times too long: 1/N is missing" in message
    assert "also fails:   flat variance" in message


@pytest.mark.parametrize("check", checks(RIGHT_UPDATES["zscore"], rule=RULE), ids=str)
def test_checks_are_for_parametrize(check):
    check()


def test_what_the_rule_does_not_claim_is_not_checked():
    names = {name: {str(check) for check in checks(RIGHT_UPDATES[name], rule=RULES[name])} for name in RULES}
    assert "order alone" in names["ranks"]
    assert not any("order alone" in names[name] for name in set(names) - {"ranks"})
    assert "even rewards" in names["pairs"] & names["two-point"]
    assert "even rewards" not in names["zscore"]
    assert "law of the norm" not in names["raw"]


def test_keywords_are_checked_where_they_are_taken():
    def proportional(r, e, alpha=ALPHA):
        return alpha / N * z(r) @ e

    check_update(proportional, rule=RULE)
    message = failure(check_update, lambda r, e, alpha=ALPHA: proportional(r, e), rule=RULE)
    assert "twice the alpha" in message

    def alike(theta, reward, seed, workers=1):
        return right_step(theta, reward, seed)

    check_step(alike, rule=RULE)


def test_refusals():
    with pytest.raises(ConfigError, match="small dim"):
        check_update(RIGHT_UPDATES["zscore"], rule=ESConfig(dim=4 * 10**9, sigma=0.1, population=30))
    for change, words in (
        ({"dim": 4}, "too few"),
        ({"dtype": "bfloat16"}, "not checked"),
        ({"noise": "low-rank:2"}, "needs the shapes"),
        ({"momentum": 0.9}, "start"),
    ):
        rule = ESConfig(**({"dim": DIM, "sigma": 0.1, "population": 4} | change))
        with pytest.raises(ConfigError, match=words):
            check_step(right_step, rule=rule)
    with pytest.raises(ConfigError, match="elements"):
        check_step(right_step, rule=RULE, shapes=((2, 3),))
    with pytest.raises(ConfigError, match="not callable"):
        checks(3, rule=RULE)
    with pytest.raises(ConfigError, match="kind"):
        checks(right_step, rule=RULE, kind="steps")
    with pytest.raises(ConfigError, match="level"):
        checks(right_step, rule=RULE, level=0.0)
    with pytest.raises(ConfigError, match="shapes"):
        checks(right_step, rule=RULE, shapes=((64,),))


def test_lists_and_float32_are_taken():
    check_shaping(lambda r: z(r).astype(np.float32).tolist(), rule=RULE)
    check_update(lambda r, e: np.float32(ALPHA / N) * z(r).astype(np.float32) @ e.astype(np.float32), rule=RULE)


def test_equal_rewards_whose_mean_is_rounded():
    """0.1 thirty times: in float32 their mean is not one of them, and what is left is a coefficient of 0.6."""
    message = failure(check_shaping, lambda r: z(r.astype(np.float32)), rule=RULE)
    assert "all rewards 0.1" in message
    assert "rounded" in message


def test_a_check_is_fast():
    start = time.perf_counter()
    check_step(right_step, rule=RULE)
    assert time.perf_counter() - start < 30  # 2 s alone on a core; other work may share it
