"""The first picture of the page: earned, paid and the measured reward of each run."""

import numpy as np
import pytest

from estheory.measurement.run_log import ledgers
from estheory.reporting.page.ledger_section import MOST_RUNS, ledger_section
from estheory.reporting.page.report import Report, report_page
from estheory.theory.economy.ledger import ledger
from estheory.theory.economy.ledger_entry import LedgerRules, LoggedUpdate
from tests.theory.economy.quadratic_runs import es_run

RULES = LedgerRules(sigma=0.1, alpha=0.03, population=16, mirrored=True)


def book(*, whole=True, rules=RULES):
    rows, _ = es_run(np.random.default_rng(1), steps=12, members=16, prompts=16, alpha=0.03)
    updates = [
        LoggedUpdate(step=step, prompt_rewards=rewards, centre_rewards=centre if whole else None, coefficients=z)
        for step, (rewards, centre, z, _) in enumerate(rows, start=1)
    ]
    return ledger(updates, rules)


def test_it_draws_and_tells_the_totals():
    found = book()
    section = ledger_section({"a": found})
    assert f"{found.total('earned').value:.3g}" in section.figure_svg
    assert "measured change" in section.figure_svg
    assert len(section.table.rows) == 1
    assert "upper bound" not in section.sentence


def test_what_is_not_known_is_not_drawn_and_a_bound_is_told():
    rules = LedgerRules(sigma=0.1, alpha=0.03, population=16)
    section = ledger_section({"a": book(whole=False, rules=rules)})
    assert "at most" in section.table.rows[0][1]
    assert section.table.rows[0][2] == "-"
    assert "upper bound" in section.sentence


def test_of_many_runs_a_few_are_drawn_and_all_told():
    section = ledger_section({f"run {k}": book() for k in range(MOST_RUNS + 2)})
    assert len(section.table.rows) == MOST_RUNS + 2
    assert f"run {MOST_RUNS}" not in section.figure_svg


def test_it_is_the_first_picture_of_the_page(tmp_path):
    pytest.importorskip("torch")
    from estheory.runs.read import read_own
    from estheory.training.es import run_es
    from tests.training.runs import es_config

    run_es(es_config(mirror_every=1), tmp_path / "run")
    runs = {"run": read_own(tmp_path / "run")}
    assert list(ledgers(runs)) == ["run"]
    page = report_page(Report(judged={"run": []}, plain=[], level=0.05, runs=runs, ledgers=ledgers(runs)))
    first = page.index("<svg")
    assert "What the run earned and paid" in page[first - 1000 : first + 1000]
