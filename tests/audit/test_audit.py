"""The audit finds nothing in its fixed cases, and would find a wrong law of every kind of row."""

import pytest

from tests.audit.__main__ import FAMILY, audit, controls, failures, summary

CASES = 250


@pytest.mark.slow
def test_a_fixed_budget_of_the_audit():
    # false-failure rate: 1e-6 for all rows together; the cases are fixed, about two minutes of them
    result = audit(((20, k) for k in range(CASES)), 900.0)
    assert result["configurations"] == CASES, f"stopped after {result['configurations']} of {CASES} in 15 minutes"
    assert not result["errors"], summary(result)
    assert not failures(result["rows"]), summary(result)
    for quantity, (refuted, total) in controls(result["rows"]).items():
        assert refuted or total < 8, f"no wrong law of {quantity} was refuted in {total} rows"


def test_a_wrong_law_is_found():
    result = audit([(20, k) for k in range(3)], 30.0)
    assert result["configurations"] == 3
    assert any(row.control < FAMILY for row in result["rows"])
    assert "the ten worst rows" in summary(result)
