"""Forecasts that a run writes down as it goes on, and the stop that they call for."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from estheory.cli.progress import RunView
from estheory.errors import ConfigError
from estheory.quantities import Quantity
from estheory.runs.directory import RunDirectory
from estheory.training.es import resume, run_es
from estheory.validation.forecast_pairs import forecast_pairs
from tests.training.runs import contents, es_config

SETTING: dict[str, Any] = {
    **{"steps": 14, "mirror_every": 1, "forecast_every": 6, "checkpoint_every": 0},
    **{"population": 4, "prompts": 4, "evaluation_prompts": 8},
}


def forecasts(directory: Path) -> str:
    return (directory / "forecasts.jsonl").read_text()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("foreseen") / "es"
    assert run_es(es_config(**SETTING), directory).because == ""
    return directory


def test_they_are_of_earlier_rows_and_judged_by_later_ones(whole: Path) -> None:
    rows = [json.loads(line) for line in forecasts(whole).splitlines()]
    assert [row["step"] for row in rows] == [6, 12]
    record = RunDirectory.open(whole).record()
    pairs = [pair for pair in forecast_pairs(record) if pair[0].quantity is not Quantity.REWARD_PEAK_STEP]
    assert {p.quantity for p, _ in pairs} == {Quantity.CENTRE_REWARD, Quantity.ACCURACY, Quantity.DISPLACEMENT_NORM}
    for prediction, measurement in pairs:
        assert prediction.step is not None
        if prediction.quantity is Quantity.CENTRE_REWARD:  # row t + 1 is of theta_t
            assert measurement.value == record.steps[prediction.step].centre_reward
        elif prediction.quantity is Quantity.ACCURACY:
            assert measurement.where.endswith("held-out prompts")
            assert measurement.value == record.evaluated("accuracy")[14, "reversal"][0]
            assert "from their accuracy at step 0" in prediction.assumptions[-1]
        else:
            assert measurement.value == record.steps[prediction.step - 1].norm
    assert RunView(whole).outlook(6).startswith("step 6: earning ")
    assert ", paying " in RunView(whole).outlook(6)
    assert RunView(whole).outlook(7) == ""


def test_a_run_that_is_cut_off_before_its_forecast_makes_the_same(whole: Path, tmp_path: Path) -> None:
    def cut(row: Mapping[str, Any]) -> None:
        if row["step"] == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_es(es_config(**SETTING), tmp_path / "run", on_step=cut)
    for name in ("steps", "rewards"):
        file = tmp_path / "run" / f"{name}.jsonl"
        file.write_text("".join(file.read_text().splitlines(keepends=True)[:6]))
    (tmp_path / "run" / "forecasts.jsonl").write_text('{"step": 6, "pre')
    resume(tmp_path / "run")
    assert forecasts(tmp_path / "run") == forecasts(whole)
    assert contents(tmp_path / "run") == contents(whole)


def test_the_stop_is_recorded_kept_and_can_be_lifted(whole: Path, tmp_path: Path) -> None:
    stopped = run_es(es_config(**SETTING, stop_net=10.0), tmp_path / "run")
    assert stopped.step == 6
    assert "below 10" in stopped.because
    assert RunDirectory.open(tmp_path / "run").checkpoints().keys() == {6}
    again = resume(tmp_path / "run")
    assert (again.step, again.because) == (6, stopped.because)
    assert resume(tmp_path / "run", stop_net=-10.0).step == 14
    names = ("steps.jsonl", "rewards.jsonl")
    assert all((tmp_path / "run" / name).read_bytes() == (whole / name).read_bytes() for name in names)


def test_a_stop_needs_forecasts() -> None:
    with pytest.raises(ConfigError, match="forecasts"):
        es_config(stop_net=0.0)
    assert es_config().stop_net == -math.inf
    assert "stop_net = -inf" in es_config().to_toml()
