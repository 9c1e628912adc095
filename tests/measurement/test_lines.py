"""Lines around two solutions of rewards that are known everywhere, and what is predicted of them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from estheory.errors import ConfigError, DataError
from estheory.measurement.directions import random_direction
from estheory.measurement.displacement import measure_displacements
from estheory.measurement.line_study import LineDesign, left_out_of, studies_of, study_lines
from estheory.models.builtin import get_builtin
from estheory.models.parameters import FlatParameters
from estheory.models.shapes import tensor_shapes
from estheory.quantities import Quantity
from estheory.validation.judge import judge
from estheory.validation.line_pairs import line_pairs, over_directions, slope_rises
from tests.statistics import Z

DIM = 600
EIGENVALUES = torch.linspace(0.0, 2.0, DIM, dtype=torch.float64)
SLOPE = torch.linspace(-1.0, 1.0, DIM, dtype=torch.float64)


@pytest.fixture
def parameters():
    torch.manual_seed(0)
    return FlatParameters(torch.nn.Linear(DIM, 1, bias=False).double())


def reward(parameters, *, cubic=0.0, prompts=20, noise=0.0):
    """Return an evaluation: prompt p weighs the quadratic by its own factor, mean 1; noise is fixed by the place."""
    weights = np.linspace(0.5, 1.5, prompts)
    base = parameters.vector.clone()

    def evaluate():
        x = parameters.vector - base
        value = float(SLOPE @ x - 0.5 * (EIGENVALUES * x**2).sum() + cubic * (SLOPE @ x) ** 3)
        rng = np.random.default_rng(abs(hash(value)) % 2**32)
        return value * weights + noise * rng.standard_normal(prompts)

    return evaluate


def solutions(parameters, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        parameters.vector + scale * torch.randn(DIM, generator=generator, dtype=torch.float64) for scale in (0.3, 0.05)
    ]


def study(parameters, start, end, evaluate, *, local=True, **design):
    ends = {"es": start, "grpo": end}
    return study_lines(parameters, ends, evaluate, score="logprob", design=LineDesign(**design), local=local)


def test_a_quadratic_is_predicted_everywhere(parameters):
    before = parameters.vector.clone()
    start, end = solutions(parameters)
    found = study(parameters, start, end, reward(parameters), directions=8)
    assert torch.equal(parameters.vector, before)
    difference = start - end
    gain = float((EIGENVALUES * difference**2).sum()) / 8
    np.testing.assert_allclose(slope_rises(found).mean(), gain, rtol=1e-9)
    np.testing.assert_allclose(found.line.middle_rise[0], gain, rtol=1e-9)
    along = random_direction(parameters.vector, 1)  # the first of the random lines
    rise = found.length**2 * float((EIGENVALUES * along**2).sum()) / 8
    np.testing.assert_allclose(found.random_rises[0].mean(), rise, rtol=1e-9)
    pairs = line_pairs(found)
    exact = [pairs[0], pairs[2], pairs[3]]
    for prediction, measurement in exact:
        assert measurement.value == pytest.approx(prediction.law.mean, rel=1e-7)
    assert {p.quantity for p, _ in pairs} == {Quantity.INTERPOLATION_GAIN, Quantity.DIRECTION_GAIN}
    fall = -0.5 * found.norms["es"] ** 2 * found.around_base.values.mean()
    assert pairs[4][0].law.mean == pytest.approx(fall)
    trace = float(EIGENVALUES.sum())
    error = found.around_base.values.mean(axis=1).std(ddof=1) / np.sqrt(8)
    assert abs(found.around_base.values.mean() - trace / DIM) < Z * error


def test_slopes_take_a_cubic_in_and_nothing_beyond(parameters):
    start, end = solutions(parameters)
    found = study(parameters, start, end, reward(parameters, cubic=0.3), directions=4, local=False)
    assert slope_rises(found).mean() == pytest.approx(found.line.middle_rise[0], rel=1e-6)
    assert found.around_base is None
    assert len(line_pairs(found)) == 2
    base = parameters.vector.clone()

    def quartic():
        return -(float(((parameters.vector - base) ** 2).sum()) ** 2) * np.linspace(0.5, 1.5, 20)

    bent = study(parameters, start, end, quartic, directions=4, local=False)
    assert abs(slope_rises(bent).mean() / bent.line.middle_rise[0] - 1) > 0.05
    assert judge(line_pairs(bent)[:1])[0].kind == "refuted"


def test_verdicts_hold_for_random_solutions_and_notice_wrong_formulas(parameters):
    """60 pairs of solutions: more than 14 families refuted at 5 % has a chance under 1e-6."""
    refuted, wrong = 0, []
    evaluate = reward(parameters, noise=0.02)
    for seed in range(60):
        start, end = solutions(parameters, seed)
        pairs = line_pairs(
            study(parameters, start, end, evaluate, points=5, directions=12, local=False, seed=100 * seed)
        )
        refuted += any(v.kind == "refuted" for v in judge(pairs))
        (prediction, measurement), _ = pairs
        wrong.append(abs(measurement.value - prediction.law.mean / 2) > Z * measurement.stderr)  # D'Lam D / 16
    assert refuted <= 14
    assert all(wrong)


def test_a_line_along_a_sharp_direction_is_not_a_random_one(parameters):
    start, end = solutions(parameters)
    end = start.clone()
    end[-1] += float((start - parameters.vector).norm())  # the sharpest direction alone, twice the mean eigenvalue
    verdicts = judge(
        line_pairs(study(parameters, start, end, reward(parameters, noise=1e-3), directions=12, local=False))
    )
    assert [v.kind for v in verdicts] == ["consistent", "refuted"]
    assert verdicts[1].ratio > 1.5


def test_a_walk_beside_a_solution_that_shares_what_it_learned(parameters):
    """The longer displacement is a walk and half of the shorter one, which lies along the sharpest direction."""
    base, walk = parameters.vector.clone(), solutions(parameters)[0]
    end, start, apart = base.clone(), walk.clone(), walk.clone()
    end[-1] += 5.0
    start[-1] = base[-1] + 2.5
    apart[-1] = base[-1]  # control: shares nothing

    def told(from_there):
        found = study(parameters, from_there, end, reward(parameters, noise=1e-3), directions=32)
        return {p.where.rpartition(", ")[2]: (p, m) for p, m in line_pairs(found)}

    walked = float((EIGENVALUES * (apart - base) ** 2).sum()) / 8
    for rows, missing in ((told(start), 2.5), (told(apart), 5.0)):
        law, seen = rows["walk and coherent part"][0].law, rows["walk and coherent part"][1]
        assert law.mean == pytest.approx(walked + 2.0 * missing**2 / 8, rel=0.1)
        assert abs(law.mean - seen.value) < 2 * law.std + Z * seen.stderr
        assert rows["random directions"][0].law.mean < 0.95 * law.mean


def test_the_law_over_directions_has_the_moments_of_a_further_one():
    values = np.random.default_rng(0).chisquare(20, 4000)
    law = over_directions(values)
    assert law.mean == pytest.approx(values.mean())
    assert law.std == pytest.approx(values.std(ddof=1), rel=1e-3)
    assert over_directions(values[:4]).std > values[:4].std(ddof=1) * 1.9
    assert over_directions(-values).mean < 0
    assert over_directions(np.ones(5)).std == 0


def test_bad_lines_are_refused_and_leave_the_model(parameters):
    before = parameters.vector.clone()
    start, end = solutions(parameters)
    for a, b, options in ((start, start, {}), (before, end, {}), (start, end, {"directions": 3})):
        with pytest.raises(ConfigError):
            study(parameters, a, b, reward(parameters), **options)
    for limit in (4, 0):

        def evaluate(limit=limit):
            moved = float((parameters.vector - before).norm())
            return np.full(3, np.nan if limit == 0 or moved > float((start - before).norm()) * 1.01 else 1.0)

        with pytest.raises(DataError):
            study(parameters, start, end, evaluate, directions=4)
    assert torch.equal(parameters.vector, before)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    from estheory.cli.app import main

    folder = tmp_path_factory.mktemp("lines")
    common = [
        "--steps",
        "3",
        "--prompts",
        "8",
        "--evaluation-prompts",
        "8",
        "--quiet",
        "--output",
        str(folder / "said"),
    ]
    assert main(["run", "es", "--population", "4", "--out", str(folder / "es"), *common]) == 0
    assert main(["run", "grpo", "--samples", "2", "--lr", "1e-4", "--out", str(folder / "grpo"), *common]) == 0
    return folder


def test_the_command_writes_curves_and_verdicts(runs, capsys):
    from estheory.cli.app import main

    ends = [str(runs / "es"), str(runs / "grpo")]
    few = ["--prompts", "12", "--points", "3", "--directions", "4"]
    code = main(["lines", *ends, *few, "--json"])
    document = json.loads(capsys.readouterr().out)
    assert code in (0, 3, 4)
    assert document["schema"] == "estheory/lines/1"
    assert [line["score"] for line in document["lines"]] == ["accuracy", "logprob"]
    accuracy, logprob = document["lines"]
    assert len(accuracy["line"]["mean"]) == len(accuracy["line"]["predicted_rise"]) == 3
    assert accuracy["along"]["es"]["predicted"] is None
    assert len(logprob["along"]["random"]["predicted"]) == len(logprob["along"]["distance"])
    assert {m["quantity"] for m in logprob["measurements"]} == {"log_probability", "interpolation_gain"}
    assert len(document["verdicts"]) == 8
    assert sum(document["summary"].values()) == 8
    files = [str(runs / name / "checkpoints" / "step_000003.safetensors") for name in ("es", "grpo")]
    told = ["--model", "tiny-lm", "--task", "addition"]
    assert main(["lines", *files, *told, *few, "--json"]) == code
    again = json.loads(capsys.readouterr().out)
    assert [line["line"] for line in again["lines"]] == [line["line"] for line in document["lines"]]
    main(["lines", *ends, *few])
    said = capsys.readouterr().out
    assert "Along directions from the base" in said
    assert "es|grpo, logprob" in said


def test_two_ledgers_tell_the_rise_between_their_runs(tmp_path, capsys):
    from estheory.cli.app import main

    rules = ["--population", "8", "--antithetic", "--reward", "logprob", "--steps", "4", "--prompts", "8"]
    for seed, name in enumerate(("one", "other")):
        out = ["--seed", str(seed), "--out", str(tmp_path / name), "--quiet", "--output", str(tmp_path / "said")]
        assert main(["run", "es", *rules, *out, "--evaluation-prompts", "8"]) == 0
    few = ["--prompts", "24", "--points", "3", "--directions", "6", "--json"]
    main(["lines", str(tmp_path / "one"), str(tmp_path / "other"), *few])
    verdicts = {v["where"]: v for v in json.loads(capsys.readouterr().out)["verdicts"]}
    row = verdicts["one|other, logprob, walk and coherent part of the ledgers"]
    assert row["predicted"]["label"] == "mean-field"
    assert 0.2 < row["ratio"] < 5
    assert not any("accuracy, walk" in where for where in verdicts)  # another score than the reward


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["es/checkpoints/step_000003.safetensors", "grpo/checkpoints/step_000003.safetensors"], "give --model"),
        (["es", "es"], "no line"),
        (["es", "grpo", "--prompts", "1"], "2 or more prompts"),
        (["es", "grpo", "--level", "2"], "between 0 and 1"),
        (["es", "nowhere"], "nowhere"),
        (["es", "grpo", "--task", "no-such"], "no-such"),
    ],
)
def test_the_command_refuses_in_one_line(runs, capsys, arguments, words):
    from estheory.cli.app import main

    paths = [str(runs / a) if a.startswith(("es", "grpo", "nowhere")) else a for a in arguments]
    assert main(["lines", *paths]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert words in said


def test_adapters_stand_for_their_base_with_them_merged(tmp_path):
    """The ends of the lines are as far from the base as the adapters move it."""
    base = get_builtin("tiny-lm")
    shapes = tensor_shapes(base)
    name = next(name for name in shapes if name.endswith("q_proj.weight"))
    for seed in range(2):
        noise = torch.Generator().manual_seed(seed)
        rows, columns = shapes[name]
        factors = {"A": torch.randn(2, columns, generator=noise), "B": 0.01 * torch.randn(rows, 2, generator=noise)}
        stem = f"base_model.model.{name.removesuffix('.weight')}"
        folder = tmp_path / f"end{seed}"
        folder.mkdir()
        save_file({f"{stem}.lora_{x}.weight": t for x, t in factors.items()}, folder / "adapter_model.safetensors")
        (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 2}))
    ends = (tmp_path / "end0", tmp_path / "end1")
    [study, *_] = studies_of(
        ends, model="tiny-lm", task="addition", prompts=2, design=LineDesign(points=3, directions=4)
    )
    moved = measure_displacements(base, ends).norms
    np.testing.assert_allclose([*study.norms.values()], moved, rtol=1e-4)


def test_what_is_no_part_of_a_solution_is_listed(tmp_path):
    weights = {"a.weight": torch.randn(4, 4), "rope.inv_freq": torch.ones(4)}
    save_file(weights, tmp_path / "a.safetensors")
    save_file({"a.weight": torch.randn(4, 4)}, tmp_path / "b.safetensors")
    found = left_out_of((tmp_path / "a.safetensors", tmp_path / "b.safetensors"))
    assert [(label, row.name) for label, row in found] == [(str(tmp_path / "a.safetensors"), "rope.inv_freq")]
