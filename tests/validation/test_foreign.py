"""Run directories of other people's code, read and judged; each check has a wrong formula that it must refute."""

from __future__ import annotations

import json
import math
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from estheory.cli.measuring import given_of
from estheory.errors import ConfigError, DataError
from estheory.quantities import Quantity
from estheory.runs.foreign import foreign_format, read_foreign
from estheory.runs.view import Given
from estheory.theory.adamw import decayed_rates
from estheory.validation.collected import Reading, collected
from estheory.validation.foreign_laws import exponent_law
from estheory.validation.foreign_rounding import walk_square
from estheory.validation.foreign_runs import foreign_displacements, foreign_evidence
from estheory.validation.judge import judge
from tests.validation import foreign_runs as make

LEVEL = 1e-6
"""Family-wise level of every judgement here: a true law is refuted that rarely."""
PLAIN = make.ALPHA**2 / make.POPULATION


def verdicts(path, base=None, keep_going=False, **options):
    record = foreign_evidence(path, base, Given(**options), keep_going=keep_going)
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
    wrong, _ = verdicts(tmp_path / "run", alpha=2 * make.ALPHA)
    norms = of(wrong, Quantity.DISPLACEMENT_NORM)
    assert [v.kind for v in norms] == ["refuted", "refuted"]  # 2 alpha in both tasks: only the second had it
    assert [v.ratio for v in norms] == pytest.approx([0.5, math.sqrt((6 + 36) / (24 + 36))], rel=0.05)


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
    rates = run.rates
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
    given = {"alpha": make.ALPHA, "population": make.POPULATION}
    run = read_foreign(tmp_path / "run", Given(alpha=make.ALPHA, population=make.POPULATION))
    assert run.variances[15] == pytest.approx(14 * PLAIN, rel=1e-5)
    judged, _ = verdicts(tmp_path / "run", **given)
    assert "refuted" not in kinds(judged)
    assert of(judged, Quantity.DISPLACEMENT_NORM)[0].kind == "consistent"
    wrong, _ = verdicts(tmp_path / "run", alpha=1.1 * make.ALPHA, population=given["population"])
    assert of(wrong, Quantity.DISPLACEMENT_NORM)[0].kind == "refuted"
    with pytest.raises(DataError, match="give --alpha and --population"):
        verdicts(tmp_path / "run")
    for file in (tmp_path / "run").glob("events*"):
        file.unlink()
    judged, notes = verdicts(tmp_path / "run", keep_going=True, **given)
    assert "nothing is logged" in str(judged[0].prediction.assumptions)
    assert any("no event file" in note for note in notes)


def test_event_files_of_another_code_and_their_remedy(tmp_path):
    """What they log, written as lines of JSON, is judged."""
    pytest.importorskip("tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    rng, dim, steps = np.random.default_rng(0), 4000, 10
    norms = [make.ALPHA * math.sqrt(t / make.POPULATION * rng.chisquare(dim)) for t in range(1, steps + 1)]
    with SummaryWriter(tmp_path / "run") as writer:
        for step, norm in enumerate(norms, start=1):
            writer.add_scalar("train/weight_change", norm, step)
    with pytest.raises(DataError, match=r"another code than es-at-scale \(they log train/weight_change\): .*JSONL log"):
        verdicts(tmp_path / "run")
    head = {"alpha": make.ALPHA, "sigma": make.SIGMA, "population": make.POPULATION, "dim": dim}
    rows = [head, *({"step": t, "norm": norm, "reward_std": 0.1} for t, norm in enumerate(norms, start=1))]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    judged, _ = verdicts(tmp_path / "log.jsonl")
    assert {v.prediction.quantity for v in judged} == {Quantity.DISPLACEMENT_NORM}
    assert len(judged) == steps


def test_checkpoints_that_are_adapters_are_said_to_be(tmp_path):
    make.trl(tmp_path / "run")
    for folder in (tmp_path / "run").glob("checkpoint-*"):
        (folder / "model.safetensors").unlink()
        (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(DataError, match=r"nothing can be judged: .*is an adapter, whose factors walk"):
        verdicts(tmp_path / "run", tmp_path / "run/base")


def test_what_no_norm_counts_is_said_in_reports(tmp_path):
    make.trl(tmp_path / "run")
    for file in (tmp_path / "run").glob("checkpoint-*/model.safetensors"):
        save_file(load_file(file) | {"rope.inv_freq": torch.ones(4)}, file)
    what = collected([tmp_path / "run"], Reading(base=tmp_path / "base"), lambda name: None)
    assert sum("rope.inv_freq (buffer, 4 entries)" in note for note in what.notes) == 2


def test_trl(tmp_path):
    make.trl(tmp_path / "run")
    run = read_foreign(tmp_path / "run")
    assert (run.format, list(run.checkpoints)) == ("TRL", [30, 60])
    exact = 1e-4 * (1 - np.arange(60) / 60)
    np.testing.assert_allclose(run.rates[4:], exact[4:], rtol=1e-12)  # between logged steps, too
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
    for path, match in ((tmp_path, "is no run directory of"), (tmp_path / "absent", "there is no ")):
        with pytest.raises(DataError, match=match):
            read_foreign(path)


def test_options_that_describe_no_foreign_run_are_refused(tmp_path):
    make.esvsgrpo_es(tmp_path / "run")
    with pytest.raises(ConfigError, match="--momentum does not describe"):
        given_of(tmp_path / "run", {"momentum": (0.9,)})


def test_rewards_that_are_no_numbers(tmp_path):
    make.esvsgrpo_es(tmp_path / "run")
    edit(tmp_path / "run/metrics_baseline.jsonl", lambda lines: [*lines[:6], nonsense(lines[6]), *lines[7:]])
    with pytest.raises(DataError, match=r"step 3: nan is no spread of rewards"):
        verdicts(tmp_path / "run")
    judged, notes = verdicts(tmp_path / "run", keep_going=True)
    assert "refuted" not in kinds(judged)
    assert any("step 3" in note for note in notes)


def nonsense(line):
    return json.dumps({**json.loads(line), "fitness_std": math.nan}) + "\n"


def test_coefficients_that_are_no_numbers(tmp_path):
    make.es_awd(tmp_path / "run", decay="none", strength=0.0)
    file = tmp_path / "run/iteration_updates/iteration_000005.json"
    update = json.loads(file.read_text())
    for damage in ([math.nan] * 8, [1.0], "none"):
        file.write_text(json.dumps({**update, "update_coefficients": damage}))
        with pytest.raises(DataError, match=r"step 5 has|damaged"):
            read_foreign(tmp_path / "run")
    file.write_text(json.dumps({**update, "update_coefficients": [math.nan] * 8}))
    assert "refuted" not in kinds(verdicts(tmp_path / "run", keep_going=True)[0])


def test_records_of_two_codes_in_one_folder(tmp_path):
    make.esvsgrpo_es(tmp_path / "run")
    make.trl(tmp_path / "trl")
    shutil.copytree(tmp_path / "trl/checkpoint-30", tmp_path / "run/checkpoint-30")
    with pytest.raises(DataError, match="records of ESvsGRPO ES and of TRL"):
        read_foreign(tmp_path / "run")


def test_what_can_be_judged_of_a_run_with_a_damaged_checkpoint(tmp_path):
    make.es_awd(tmp_path / "run")
    make.base_model().save_pretrained(tmp_path / "base")
    weights = tmp_path / "run/final_model_weights.pt"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(DataError, match="final_model_weights"):
        verdicts(tmp_path / "run", tmp_path / "base")
    judged, notes = verdicts(tmp_path / "run", tmp_path / "base", keep_going=True)
    assert {v.measurement.where.split(":")[0] for v in judged} == {"logged"}
    assert any("final_model_weights" in note for note in notes)


def test_layers_of_a_log_are_judged_one_by_one(tmp_path):
    make.es_awd(tmp_path / "run", decay="none", strength=0.0)
    judged, _ = verdicts(tmp_path / "run")
    layers = {v.measurement.where: v for v in judged if v.measurement.where.startswith("logged:")}
    assert set(layers) == {f"logged:{name}" for name in ("embedding", "layer_0", "layer_1", "lm_head")}
    assert {v.kind for v in layers.values()} <= {"consistent", "underpowered"}
    file = tmp_path / "run/weight_change.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[-1]["weight_layer_frobenius_norm"]["layer_1"] *= 1.1  # one layer's step size was another
    make.write_lines(file, rows)
    wrong = {v.measurement.where: v.kind for v in verdicts(tmp_path / "run")[0]}
    assert wrong["logged:layer_1"] == "refuted"
    assert wrong["logged:layer_0"] != "refuted"


def test_three_versions_of_es_at_scale(tmp_path):
    pytest.importorskip("tensorboard")
    make.base_model().save_pretrained(tmp_path / "base")
    make.es_at_scale(tmp_path / "static", version="static", stalled=(5,))
    run = read_foreign(tmp_path / "static")
    assert run.variances[15] == pytest.approx(14 * PLAIN, rel=1e-5)  # from args.json and the event files
    assert (run.sigma, run.base, [str(way) for way in run.implementations]) == (
        make.SIGMA,
        None,
        ["accumulated, 4 restores per step"],
    )
    name = f"es-countdown-sigma{make.SIGMA}-alpha{make.ALPHA}-pop{make.POPULATION}-bs200-tkn512-modelx-seed42-2026"
    make.es_at_scale(tmp_path / name, version="package")
    run = read_foreign(tmp_path / name, problems=[])
    assert list(run.checkpoints) == [16]  # its folder says 15; the loop makes one more
    assert run.variances[16] == pytest.approx(16 * PLAIN)
    for path in (tmp_path / "static", tmp_path / name):
        judged, _ = verdicts(path, tmp_path / "base")
        assert "refuted" not in kinds(judged)


def test_verl_measures_and_says_why_nothing_is_judged(tmp_path):
    make.verl(tmp_path / "run")
    run = read_foreign(tmp_path / "run")
    assert (run.format, list(run.checkpoints), run.base) == ("verl", [25, 50], tmp_path / "base")
    with pytest.raises(DataError, match="verl keeps no learning rates"):
        verdicts(tmp_path / "run")
    assert foreign_displacements(run).norms[1] > 0


def test_gradient_methods_without_a_law_are_said(tmp_path):
    make.esvsgrpo_grpo(tmp_path / "run")
    file = tmp_path / "run/config.json"
    config = json.loads(file.read_text())
    for change, why in (({"type": "sgd"}, "optimiser sgd"), ({"weight_decay": 0.1}, "weight decay 0.1")):
        file.write_text(json.dumps({**config, "optimizer": {**config["optimizer"], **change}}))
        with pytest.raises(DataError, match=f"nothing can be judged: .*{why}"):
            verdicts(tmp_path / "run")


def test_what_a_log_shows_is_told_with_the_reason(tmp_path):
    make.esvsgrpo_es(tmp_path / "es")
    make.es_awd(tmp_path / "awd")
    es, awd = (foreign_evidence(tmp_path / name).unpredicted for name in ("es", "awd"))
    assert [(s.quantity, s.step, s.value) for s in awd] == [("accuracy", 12, 0.36), ("kl_drift", 12, 0.04)]
    assert {(s.quantity, s.measurement.where, s.step) for s in es} == {
        ("kl_drift", "countdown", 6),
        ("kl_drift", "math", 15),
        ("reward", "countdown", 15),
        ("reward", "math", 15),
    }
    assert all("tr F" in s.reason for s in es if s.quantity == "kl_drift")


@pytest.mark.slow
def test_the_learning_rates_that_transformers_itself_logs(tmp_path):
    """A real Trainer; older versions logged each step's successor, which the 0 at the end gives away."""
    from transformers import Trainer, TrainingArguments

    data = [{"input_ids": [1, 2, 3, 4], "labels": [1, 2, 3, 4]}] * 24
    settings = {"max_steps": 12, "logging_steps": 1, "save_steps": 12, "report_to": [], "use_cpu": True}
    arguments = TrainingArguments(tmp_path / "run", learning_rate=1e-4, lr_scheduler_type="linear", **settings)
    Trainer(make.base_model(), arguments, train_dataset=data).train()
    exact = 1e-4 * (1 - np.arange(12) / 12)
    np.testing.assert_allclose(read_foreign(tmp_path / "run").rates, exact, rtol=1e-9)
    file = tmp_path / "run/checkpoint-12/trainer_state.json"
    state = json.loads(file.read_text())
    for row in state["log_history"]:
        if "learning_rate" in row:
            row["learning_rate"] -= 1e-4 / 12
            row["learning_rate"] *= abs(row["learning_rate"]) > 1e-12
    file.write_text(json.dumps(state))
    np.testing.assert_allclose(read_foreign(tmp_path / "run").rates, exact, rtol=1e-9, atol=1e-19)


@pytest.mark.parametrize("precision", ["int8", 16, ["bfloat16"], None])
def test_a_precision_that_is_none(tmp_path, precision):
    make.es_awd(tmp_path / "run")
    file = tmp_path / "run/args.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "precision": precision}))
    with pytest.raises(DataError, match="precision"):
        verdicts(tmp_path / "run")


def test_folders_without_a_step_in_their_name_are_left_out_and_named(tmp_path):
    make.trl(tmp_path / "run")
    before, _ = verdicts(tmp_path / "run", tmp_path / "base")
    for name in ("best", "final", "30-merged"):
        shutil.copytree(tmp_path / "run/checkpoint-30", tmp_path / f"run/checkpoint-{name}")
    judged, notes = verdicts(tmp_path / "run", tmp_path / "base")
    assert [v.measurement.value for v in judged] == [v.measurement.value for v in before]
    assert all(any(f"checkpoint-{name}" in note for note in notes) for name in ("best", "final", "30-merged"))


def _optimised(folder, kind, steps, *, spread=0.0, **how):
    """Walk on dense gradient noise with a real optimiser; its state goes beside the last checkpoint."""
    folder.mkdir()
    torch.manual_seed(1)
    weights = [torch.nn.Parameter(spread * torch.randn(shape)) for shape in ((200, 100), (300,))]
    optimiser = kind(weights, lr=1e-3, **how)
    names = ("up.weight", "up.bias")

    def kept(path):
        path.mkdir()
        save_file({n: w.detach() for n, w in zip(names, weights, strict=True)}, path / "model.safetensors")

    kept(folder.parent / "base")
    for _ in range(steps):
        for w in weights:
            w.grad = torch.randn_like(w)
        optimiser.step()
    kept(folder / f"checkpoint-{steps}")
    torch.save(optimiser.state_dict(), folder / f"checkpoint-{steps}" / "optimizer.pt")
    rows = [{"step": step, "learning_rate": 1e-3} for step in range(1, steps + 1)]
    state = {"global_step": steps, "log_history": rows}
    (folder / f"checkpoint-{steps}" / "trainer_state.json").write_text(json.dumps(state))


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.5, 0.99)])
def test_betas_are_read_from_the_state_of_the_optimiser(tmp_path, betas):
    _optimised(tmp_path / "run", torch.optim.AdamW, 40, betas=betas, weight_decay=0.0)
    [verdict], notes = verdicts(tmp_path / "run", tmp_path / "base")
    assert verdict.ratio == pytest.approx(1, abs=0.03)  # of 20,300 weights; 0.9 and 0.999 would be off by 0.08
    assert any(f"{betas[0]:g} and {betas[1]:g}" in text for text in verdict.prediction.assumptions)
    assert any("0.5 and 0.99" in note for note in notes) == (betas == (0.5, 0.99))


def test_weight_decay_is_read_from_the_state_of_the_optimiser(tmp_path):
    """It shrinks the walk, and with it the weights that the run began with."""
    _optimised(tmp_path / "run", torch.optim.AdamW, 40, weight_decay=10.0, spread=0.02)
    [verdict], notes = verdicts(tmp_path / "run", tmp_path / "base")
    assert verdict.ratio == pytest.approx(1, abs=0.03)
    assert any("weight decay 10" in note for note in notes)
    assert any("weight decay 10" in text for text in verdict.prediction.assumptions)
    rates = np.full(40, 1e-3)
    left, lost = decayed_rates(rates, 10.0)
    assert lost > 0.3
    for wrong in (walk_square(rates), walk_square(left)):  # controls: no decay, and none of the first weights
        assert abs(verdict.measurement.value / math.sqrt(20_300 * wrong) - 1) > 0.1


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.NAdam, torch.optim.Adamax, torch.optim.RMSprop])
def test_a_walk_of_another_optimiser_is_not_judged_as_adamw(tmp_path, kind):
    _optimised(tmp_path / "run", kind, 10)
    with pytest.raises(DataError, match=r"optimizer.pt is not AdamW"):
        verdicts(tmp_path / "run", tmp_path / "base")


def test_a_state_of_an_optimiser_that_cannot_be_read_is_said(tmp_path):
    _optimised(tmp_path / "run", torch.optim.AdamW, 10)
    (tmp_path / "run/checkpoint-10/optimizer.pt").write_bytes(b"cut")
    _, notes = verdicts(tmp_path / "run", tmp_path / "base")
    assert any("taken for AdamW" in note for note in notes)
