"""How often a right estimator fails: never in 1,000 seeds, where a millionth is promised."""

import pytest

from estheory.testing import checks
from tests.testing.estimators import RIGHT_UPDATES, RULES


def laws(name, seed, **keywords):
    found = checks(RIGHT_UPDATES[name], rule=RULES[name], seed=seed, **keywords)
    return [check for check in found if check.name.startswith(("flat variance", "independent", "progress", "law"))]


@pytest.mark.slow
@pytest.mark.parametrize("name", RULES)
def test_a_right_update_never_fails(name):
    for seed in range(200):
        for check in checks(RIGHT_UPDATES[name], rule=RULES[name], seed=seed):
            check()


@pytest.mark.slow
def test_the_laws_fail_as_often_as_their_level_says():
    """At a level of a half, over 200 seeds: each law has one eighth of it for two tests, and not much less is used."""
    tried = [check.outcome().holds for seed in range(200) for check in laws("zscore", seed, level=0.5)]
    failed = tried.count(False)
    assert 1000 * 0.02 < failed < 1000 * 0.5 / 4 * 1.5


def test_a_law_that_is_off_by_five_per_cent_fails():
    rule = RULES["zscore"]
    wrong = checks(lambda r, e: 1.05 * RIGHT_UPDATES["zscore"](r, e), rule=rule)
    failing = {check.name for check in wrong if not check.outcome().holds}
    assert {"flat variance", "flat variance beside a signal"} <= failing
