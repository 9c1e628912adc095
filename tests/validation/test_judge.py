"""Verdicts: false alarms at the stated rate, and power against the stated error."""

import numpy as np
import pytest

from estheory.laws import ChiLaw, NormalLaw, PointLaw
from estheory.quantities import Measurement, Prediction, Quantity
from estheory.validation.judge import exit_code, judge, noticeable_error, refuting_power, verdict_pvalue, without_band


def pair(law, value, stderr=0.0, systematic=0.0, quantity=Quantity.DISPLACEMENT_NORM):
    prediction = Prediction(quantity=quantity, law=law, label="exact", source="test", systematic=systematic)
    return prediction, Measurement(quantity=quantity, value=value, stderr=stderr)


def test_family_wise_false_alarms():
    """1,000 families of 8 true predictions at level 0.05: Holm keeps the share of families that refute one."""
    rng = np.random.default_rng(0)
    law = ChiLaw(0.01, 10_000.0)
    families = 1000
    alarms = sum(
        any(v.kind == "refuted" for v in judge([pair(law, float(x)) for x in law.sample(rng, 8)], 0.05))
        for _ in range(families)
    )
    # binomial with p <= 0.05: above 86 with probability below 1e-6
    assert alarms <= 86
    assert alarms >= 18  # and the test does use its level: under p = 0.049, 18 or fewer has probability below 1e-6


def test_a_five_percent_error_is_found_when_the_power_says_so():
    law = NormalLaw(1.0, 0.005)
    rng = np.random.default_rng(1)
    prediction, measurement = pair(law, 1.0, stderr=0.005)
    power = refuting_power(prediction, measurement, 0.01)
    values = 1.05 + 0.005 * rng.standard_normal((2, 2000)).sum(axis=0)
    found = np.mean([verdict_pvalue(*pair(law, float(v), stderr=0.005)) <= 0.01 for v in values])
    assert found == pytest.approx(power, abs=4.9 * 0.5 / 2000**0.5)
    assert power > 0.99
    assert refuting_power(*pair(law, 1.0, stderr=0.02), 0.01) < 0.95


def test_underpowered_and_refuted():
    law = NormalLaw(1.0, 0.001)
    kinds = [v.kind for v in judge([pair(law, 1.0, 0.001), pair(law, 1.0, 0.1), pair(law, 1.2, 0.001)])]
    assert kinds == ["consistent", "underpowered", "refuted"]


def test_holm_is_a_step_down():
    law = NormalLaw(1.0, 0.001)
    # p = 0.04 alone is refuted at 0.05; beside another p = 0.04 it is not
    z = 2.0537
    assert judge([pair(law, 1 + z * 0.001)])[0].kind == "refuted"
    assert {v.kind for v in judge([pair(law, 1 + z * 0.001)] * 2)} == {"consistent"}


def test_systematic_band_is_granted_in_full_and_can_be_taken_away():
    law = NormalLaw(1.0, 0.001)
    verdicts = judge([pair(law, 1.019, systematic=0.02), pair(law, 1.03, systematic=0.02)])
    assert [v.kind for v in verdicts] == ["consistent", "refuted"]
    assert [v.kind for v in without_band(verdicts)] == ["refuted", "refuted"]
    assert judge([pair(law, 1.0, systematic=0.06)])[0].kind == "underpowered"


def test_bounds_are_refuted_only_from_above():
    bound = Quantity.ES_GRPO_COSINE_BOUND
    law = PointLaw(0.1)
    assert judge([pair(law, -0.05, 0.001, quantity=bound)])[0].kind != "refuted"
    assert judge([pair(law, -0.12, 0.001, quantity=bound)])[0].kind == "refuted"
    assert judge([pair(law, 0.12, 0.0, quantity=bound)])[0].kind == "refuted"


def test_a_bound_is_consistent_only_if_it_says_something():
    law, bound = PointLaw(0.1), Quantity.ES_GRPO_COSINE_BOUND
    kinds = {value: judge([pair(law, value, 1e-4, quantity=bound)])[0].kind for value in (0.001, 0.05, 0.09, 0.099)}
    assert kinds == {0.001: "underpowered", 0.05: "underpowered", 0.09: "underpowered", 0.099: "consistent"}
    assert noticeable_error(*pair(law, 0.001, 1e-4, quantity=bound), 0.05) == pytest.approx(0.099, rel=0.01)


def test_a_prediction_of_zero_is_judged_in_its_own_unit():
    """A cosine of 0 +- 1e-3 excludes one of 0.05; a length or a reward of 0 has no 5 %, and its scatter is the unit."""
    cosine, change = Quantity.INDEPENDENT_COSINE, Quantity.OFF_TASK_REWARD_CHANGE
    cases = [
        (cosine, NormalLaw(0.0, 1e-3), 1e-3, 0.0, "consistent"),
        (cosine, NormalLaw(0.0, 0.1), 0.05, 0.0, "underpowered"),
        (cosine, NormalLaw(0.0, 1e-3), 0.05, 0.0, "refuted"),
        (change, NormalLaw(0.0, 1e-3), 1e-3, 0.0, "consistent"),
        (change, NormalLaw(0.0, 1e-3), 1e-3, 0.1, "underpowered"),  # measured worse than the law scatters
        (change, NormalLaw(0.0, 1e-3), 1e-2, 0.0, "refuted"),
        (change, PointLaw(0.0), 0.0, 0.0, "consistent"),
        (change, PointLaw(0.0), 0.0, 0.1, "underpowered"),
        (change, PointLaw(0.0), 0.1, 0.0, "refuted"),
    ]
    for quantity, law, value, stderr, kind in cases:
        assert judge([pair(law, value, stderr, quantity=quantity)])[0].kind == kind


def test_exit_codes():
    law = NormalLaw(1.0, 0.001)
    good, weak, bad = pair(law, 1.0, 0.001), pair(law, 1.0, 0.1), pair(law, 1.2, 0.001)
    assert exit_code(judge([good, weak])) == 0
    assert exit_code(judge([good, weak, bad])) == 3
    assert exit_code(judge([weak])) == 4
    assert exit_code(judge([])) == 4


@pytest.mark.parametrize("systematic", [0.0, 0.1])
def test_an_error_that_is_noticeable_is_noticed_95_times_in_100(systematic):
    rng, level, runs = np.random.default_rng(3), 0.01, 4000
    law = NormalLaw(2.0, 0.3)

    def noticed(off):
        values = rng.normal(2.0 + off, np.hypot(0.3, 0.4), runs)
        pairs = (pair(law, value, stderr=0.4, systematic=systematic) for value in values)
        return np.mean([verdict_pvalue(*judged) < level for judged in pairs])

    error = noticeable_error(*pair(law, 0.0, stderr=0.4, systematic=systematic), level)
    assert noticed(error) == pytest.approx(0.95, abs=5 * (0.95 * 0.05 / runs) ** 0.5)  # fails 6e-7 of the time
    assert noticed(0.5 * error) < 0.9  # the negative control
