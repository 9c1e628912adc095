"""Run directories of other people's code, read and judged; each check has a wrong formula that it must refute."""

from __future__ import annotations

import json
import math
import shutil

import numpy as np
import pytest
import torch

from estheory.cli.foreign import recorded_foreign
from estheory.cli.measure import MeasureOptions
from estheory.cli.options import ESOptions
from estheory.errors import ConfigError, DataError
from estheory.quantities import Quantity
from estheory.validation.foreign import Given, foreign_format, read_foreign
from estheory.validation.foreign.pairs import exponent_law
from estheory.validation.judge import judge
from tests.validation import foreign_runs as make

LEVEL = 1e-6
"""Family-wise level of every judgement here: a true law is refuted that rarely."""
PLAIN = make.ALPHA**2 / make.POPULATION


def verdicts(path, base=None, keep_going=False, **options):
    record = recorded_foreign(path, base, ESOptions(**options), MeasureOptions(keep_going=keep_going))
    return judge(record.pairs, LEVEL), record.notes


def kinds(judged):
    return {v.kind for v in judged}


def of(judged, quantity):
    return [v for v in judged if v.prediction.quantity is quantity]


def test_esvsgrpo_es(tmp_path):
    make.esvsgrpo_es(tmp_path / "run", stalled=(3, 4, 11))
    run = read_foreign(tmp_path / "run")
    assert run.format == foreign_format(tmp_path / "run") == "ESvsGRPO ES"
    assert list(run.checkpoints) == [6, 15]
    # the tasks' own step sizes, not the shared ones; stalled steps add nothing
    assert run.variances[6] == pytest.approx(4 * PLAIN, rel=1e-5)
    assert run.variances[15] == pytest.approx((4 + 8 * 4) * PLAIN, rel=1e-5)
    judged, notes = verdicts(tmp_path / "run")
    assert "refuted" not in kinds(judged)
    norms = of(judged, Quantity.DISPLACEMENT_NORM)
    assert [v.measurement.step for v in norms] == [6, 15]
    assert {v.kind for v in norms} == {"consistent"}
    assert {v.prediction.systematic for v in norms} == {0.0}
    assert len(of(judged, Quantity.CHECKPOINT_COSINE)) == len(of(judged, Quantity.DISPLACEMENT_EXPONENT)) == 1
    assert len(of(judged, Quantity.EFFECTIVE_DIMENSION_RATIO)) == len(list(make.base_model().named_parameters()))
    assert notes == []


def test_without_the_reward_spreads_a_stalled_run_is_refuted(tmp_path):
    """Power: the same run judged on hyper-parameters alone."""
    make.esvsgrpo_es(tmp_path / "run", stalled=(3, 4, 11))
    file = tmp_path / "run/metrics_baseline.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    for row in rows:
        row.update({"fitness_std": 0.1} if row["type"] == "train" else {})
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "refuted" in {v.kind for v in of(verdicts(tmp_path / "run")[0], Quantity.DISPLACEMENT_NORM)}


def test_a_wrong_step_size_is_refuted(tmp_path):
    make.esvsgrpo_es(tmp_path / "run")
    wrong, _ = verdicts(tmp_path / "run", alpha=str(2 * make.ALPHA))
    norms = of(wrong, Quantity.DISPLACEMENT_NORM)
    assert [v.kind for v in norms] == ["refuted", "refuted"]  # 2 alpha in both tasks: only the second had it
    assert [v.ratio for v in norms] == pytest.approx([0.5, math.sqrt((6 + 36) / (24 + 36))], rel=0.05)


def test_sixteen_bit_checkpoints_get_the_declared_band(tmp_path):
    make.esvsgrpo_es(tmp_path / "run", dtype=torch.bfloat16)
    norms = of(verdicts(tmp_path / "run")[0], Quantity.DISPLACEMENT_NORM)
    assert all(v.prediction.systematic > 0 for v in norms)


def test_an_interrupted_run_counts_the_steps_it_made(tmp_path):
    make.esvsgrpo_es(tmp_path / "run")
    shutil.rmtree(tmp_path / "run/c0_t1_math")
    file = tmp_path / "run/metrics_baseline.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    cut = next(i for i, line in enumerate(lines) if '"global_step": 9' in line)
    file.write_text("".join(lines[:cut]) + lines[cut][:40])  # mid-line
    run = read_foreign(tmp_path / "run")
    assert (len(run.increments), list(run.checkpoints)) == (8, [6])
    assert kinds(verdicts(tmp_path / "run")[0]) <= {"consistent", "underpowered"}


def test_esvsgrpo_grpo(tmp_path):
    make.esvsgrpo_grpo(tmp_path / "run")
    run = read_foreign(tmp_path / "run")
    [rates] = run.rates  # one optimiser
    np.testing.assert_allclose(rates[:48], 1e-4 * (1 - np.arange(48) / 48), rtol=1e-12)  # each step's, not the next's
    np.testing.assert_allclose(rates[48:], 2e-4 * (1 - np.arange(72) / 72), rtol=1e-12)
    assert list(run.checkpoints) == [48, 120]
    judged, _ = verdicts(tmp_path / "run")
    assert [v.prediction.quantity for v in judged] == [Quantity.GRPO_DISPLACEMENT_NORM] * 2
    # mean-field for dense noise: within 1 %; without the momentum's factor it would be 15 % off
    assert [v.ratio for v in judged] == pytest.approx([1, 1], abs=0.02)
    dim = sum(p.numel() for p in make.base_model().parameters())
    assert judged[0].measurement.value / math.sqrt(dim * float(rates[:48] @ rates[:48])) > 1.1


@pytest.mark.parametrize("mirrored", [False, True])
def test_es_awd(tmp_path, mirrored):
    make.es_awd(tmp_path / "run", mirrored=mirrored, stalled=(2,))
    make.base_model().save_pretrained(tmp_path / "base")
    run = read_foreign(tmp_path / "run")
    assert run.format == "es-awd"
    assert run.keep == pytest.approx(1 - make.ALPHA * 40)
    assert run.increments[1] < 1e-9 * PLAIN
    if not mirrored:
        expected = 0.0
        for step in range(1, 13):
            expected = run.keep**2 * (expected + (step != 2) * PLAIN)
        assert run.variances[12] == pytest.approx(expected, rel=1e-5)
    judged, notes = verdicts(tmp_path / "run")
    logged = of(judged, Quantity.DISPLACEMENT_NORM)
    assert [v.measurement.step for v in logged] == [4, 8, 12]
    # the tied embedding counts twice in mean and measurement
    assert all(abs(v.ratio - 1) < 0.06 for v in logged)
    assert any("--model" in note for note in notes)
    measured, _ = verdicts(tmp_path / "run", tmp_path / "base")
    own = [v for v in of(measured, Quantity.DISPLACEMENT_NORM) if v.measurement.where == "total:step 12"]
    assert [v.kind for v in own] == ["consistent"]
    arguments = json.loads((tmp_path / "run/args.json").read_text())
    (tmp_path / "run/args.json").write_text(json.dumps({**arguments, "weight_decay_type": "none"}))
    unanchored, _ = verdicts(tmp_path / "run", tmp_path / "base")  # power
    assert all(v.kind == "refuted" for v in of(unanchored, Quantity.DISPLACEMENT_NORM)[-2:])


def test_the_coefficients_of_mirrored_sampling_count(tmp_path):
    """Their squares sum to N (1 + kappa) over N/2 pairs, not N: taking alpha^2 T / N would be refuted."""
    make.es_awd(tmp_path / "run", mirrored=True, decay="none", strength=0.0)
    make.base_model().save_pretrained(tmp_path / "base")
    run = read_foreign(tmp_path / "run")
    assert run.variances[12] != pytest.approx(12 * PLAIN, rel=0.02)
    [norm] = [
        v
        for v in of(verdicts(tmp_path / "run", tmp_path / "base")[0], Quantity.DISPLACEMENT_NORM)
        if v.measurement.where == "total:step 12"
    ]
    assert norm.kind == "consistent"


def test_an_l1_anchor_is_not_judged(tmp_path):
    make.es_awd(tmp_path / "run", decay="l1", strength=1e-3)
    with pytest.raises(DataError, match="nothing can be judged: its L1 anchor"):
        verdicts(tmp_path / "run")


def test_es_at_scale(tmp_path):
    pytest.importorskip("tensorboard")
    make.es_at_scale(tmp_path / "run", stalled=(5,))
    given = {"alpha": str(make.ALPHA), "population": str(make.POPULATION)}
    run = read_foreign(tmp_path / "run", Given(alpha=make.ALPHA, population=make.POPULATION))
    assert run.variances[15] == pytest.approx(14 * PLAIN, rel=1e-5)
    judged, _ = verdicts(tmp_path / "run", **given)
    assert "refuted" not in kinds(judged)
    assert of(judged, Quantity.DISPLACEMENT_NORM)[0].kind == "consistent"
    wrong, _ = verdicts(tmp_path / "run", alpha=str(1.1 * make.ALPHA), population=given["population"])
    assert of(wrong, Quantity.DISPLACEMENT_NORM)[0].kind == "refuted"
    with pytest.raises(DataError, match="give --alpha and --population"):
        verdicts(tmp_path / "run")
    for file in (tmp_path / "run").glob("events*"):
        file.unlink()
    judged, notes = verdicts(tmp_path / "run", keep_going=True, **given)
    assert "nothing is logged" in str(judged[0].prediction.assumptions)
    assert any("no event file" in note for note in notes)


def test_trl(tmp_path):
    make.trl(tmp_path / "run")
    run = read_foreign(tmp_path / "run")
    assert (run.format, list(run.checkpoints)) == ("TRL", [30, 60])
    exact = 1e-4 * (1 - np.arange(60) / 60)
    np.testing.assert_allclose(run.rates[0][4:], exact[4:], rtol=1e-12)  # between logged steps, too
    judged, _ = verdicts(tmp_path / "run", tmp_path / "base")
    assert [v.ratio for v in judged] == pytest.approx([1, 1], abs=0.03)
    with pytest.raises(DataError, match=r"nothing can be judged.*--model"):
        verdicts(tmp_path / "run")


def test_the_law_of_the_exponent():
    """Mean and spread against 4000 walks of 200 coordinates; without the correlation it would be far off."""
    rng = np.random.default_rng(0)
    steps, dim, walks = (10, 11, 12), 200, 4000
    increments = rng.normal(size=(walks, len(steps), dim)) * np.sqrt(np.diff((0, *steps)))[:, None]
    squares = np.square(np.cumsum(increments, axis=1)).sum(axis=2)
    slopes = np.polyfit(np.log(steps), np.log(squares).T, 1)[0]
    law = exponent_law(steps, np.array(steps, dtype=float), dim)
    assert law.mean == pytest.approx(1, abs=1e-12)
    assert abs(slopes.mean() - 1) < 5 * law.std / math.sqrt(walks) + 2 / dim  # log chi^2 is biased by 1/d
    assert abs(slopes.std() / law.std - 1) < 5 / math.sqrt(2 * walks) + 2 / dim
    x = np.log(steps) - np.log(steps).mean()
    uncorrelated = math.sqrt(2 / dim / (x @ x))
    assert abs(slopes.std() / uncorrelated - 1) > 5 / math.sqrt(2 * walks) + 2 / dim


def edit(file, change):
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(change(lines)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: [*lines[:6], lines[5], *lines[6:]], "has step 2 twice"),
        (lambda lines: [*lines[:6], *lines[8:]], r"lacks step 3 \(2 missing\)"),
        (lambda lines: [*lines[:3], "{torn\n", *lines[3:]], "line 4 is damaged"),
        (lambda lines: [line.replace("fitness_std", "spread") for line in lines], "fitness_std"),
    ],
)
def test_damaged_logs_are_named_and_can_be_worked_around(tmp_path, change, message):
    make.esvsgrpo_es(tmp_path / "run")
    edit(tmp_path / "run/metrics_baseline.jsonl", change)
    with pytest.raises(DataError, match=message):
        verdicts(tmp_path / "run")
    if "fitness_std" not in message:
        judged, notes = verdicts(tmp_path / "run", keep_going=True)
        assert "refuted" not in kinds(judged)
        assert any(message.split(r" \(")[0] in note for note in notes)


def test_missing_and_damaged_updates(tmp_path):
    make.es_awd(tmp_path / "run")
    (tmp_path / "run/iteration_updates/iteration_000005.json").unlink()
    with pytest.raises(DataError, match=r"lacks step 5 \(1 missing\)"):
        read_foreign(tmp_path / "run")
    problems: list[str] = []
    assert read_foreign(tmp_path / "run", problems=problems).increments[4] == PLAIN
    assert len(problems) == 1
    (tmp_path / "run/iteration_updates/iteration_000006.json").write_text('{"iteration": 6, "se')
    with pytest.raises(DataError, match=r"iteration_000006\.json cannot be read"):
        read_foreign(tmp_path / "run")


def test_unknown_and_empty_folders(tmp_path):
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(DataError, match="is no run directory of"):
            read_foreign(path)


def test_options_that_describe_no_foreign_run_are_refused(tmp_path):
    make.esvsgrpo_es(tmp_path / "run")
    with pytest.raises(ConfigError, match="--momentum does not describe"):
        verdicts(tmp_path / "run", momentum="0.9")
