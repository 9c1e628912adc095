"""The gradients that are probed before a GRPO run."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("trl")

from estheory.errors import ConfigError, DataError
from estheory.quantities import Quantity
from estheory.runs.config import GRPORunConfig
from estheory.runs.read import read_own
from estheory.theory.adamw import grpo_mean_square, walk_factor
from estheory.training.gradient_probe import gradient_probe
from estheory.training.grpo import run_grpo
from estheory.validation.gradient_path_pairs import PROBED, gradient_path
from estheory.validation.own_runs import recorded_pairs

CONFIG = GRPORunConfig(
    model="tiny-lm", task="reversal", steps=4, lr=1e-4, prompts=4, samples=4, gradient_probe=2, evaluation_prompts=4
)


@pytest.fixture(scope="module")
def probed(tmp_path_factory):
    """A run with its probe."""
    folder = tmp_path_factory.mktemp("probed") / "run"
    run_grpo(CONFIG, folder, before_first_step=gradient_probe)
    return folder


def test_the_tables_are_of_a_path(probed):
    found = json.loads((probed / "probes.json").read_text())["gradients"]
    assert found["times"] == [0, 1, 2, 4]
    assert found["minibatches"] == 8
    shared, crossed = np.array(found["shared"]), np.array(found["crossed"])
    assert shared == pytest.approx(shared.T)
    assert np.diag(shared) == pytest.approx(np.diag(crossed))
    assert found["squares"][0] == pytest.approx(1, rel=0.05)  # where a gradient ever came
    path = gradient_path(read_own(probed))
    assert path.dim == found["dim"] == 59184
    assert 0 < path.error < 0.2


def test_the_run_after_it_is_as_without_it(probed, tmp_path):
    run_grpo(replace(CONFIG, gradient_probe=0), tmp_path / "run", before_first_step=gradient_probe)
    assert not (tmp_path / "run" / "probes.json").exists()
    assert (tmp_path / "run" / "steps.jsonl").read_text() == (probed / "steps.jsonl").read_text()


def test_norms_are_judged_with_it(probed):
    norms = [
        (prediction, measured)
        for prediction, measured in recorded_pairs(probed).pairs
        if prediction.quantity is Quantity.GRPO_DISPLACEMENT_NORM
    ]
    [(walk, _), (told, measured)] = norms
    assert PROBED not in walk.assumptions
    assert PROBED in told.assumptions
    assert told.law.mean > walk.law.mean * 0.9
    assert measured.value > 0


def test_a_run_in_16_bits_is_probed_in_float32_and_judged_by_the_emulator(probed, tmp_path):
    run_grpo(replace(CONFIG, dtype="bfloat16"), tmp_path / "run", before_first_step=gradient_probe)
    content = json.loads((tmp_path / "run" / "probes.json").read_text())
    assert content["dtype"] == "bfloat16"
    assert content["gradients"]["shared"] == json.loads((probed / "probes.json").read_text())["gradients"]["shared"]
    walk, told = (prediction for prediction, _ in recorded_pairs(tmp_path / "run").pairs)
    assert PROBED in told.assumptions
    assert PROBED not in walk.assumptions
    assert told.law.mean < math.sqrt(gradient_path(read_own(tmp_path / "run")).mean_square(np.full(4, 1e-4), 4))


def test_steps_without_a_gradient_and_rates_are_read_from_the_log(probed, tmp_path):
    for file in probed.iterdir():
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "probes.json").unlink()
    rows = [json.loads(line) for line in (tmp_path / "steps.jsonl").read_text().splitlines()]

    def norm(**changed):
        told = [row | {name: values[k] for name, values in changed.items()} for k, row in enumerate(rows)]
        (tmp_path / "steps.jsonl").write_text("".join(json.dumps(row) + "\n" for row in told))
        [(prediction, _)] = recorded_pairs(tmp_path).pairs
        return prediction

    usual, warm = [False] * 4, [0.0, 5e-5, 1e-4, 5e-5]
    plain = norm(stalled=usual, lr=[1e-4, 7.5e-5, 5e-5, 2.5e-5])
    assert plain.law.mean == pytest.approx(math.sqrt(grpo_mean_square(59184, 1e-4, 4)), rel=1e-4)
    warmed = math.sqrt(59184 * walk_factor(np.array(warm)) * 1.5e-8)
    assert norm(stalled=usual, lr=warm).law.mean == pytest.approx(warmed, rel=1e-4)
    active = np.array([True, False, True, True])
    fewer = norm(stalled=(~active).tolist(), lr=warm)
    assert fewer.law.mean == pytest.approx(
        math.sqrt(59184 * walk_factor(np.array(warm), active=active) * 1.5e-8), rel=1e-4
    )
    assert "1 steps without a gradient" in fewer.assumptions
    assert norm(stalled=[True] * 4, lr=warm).law.mean == 0.0


def test_a_probe_of_another_run_is_named(probed, tmp_path):
    for file in probed.iterdir():
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    content = json.loads((tmp_path / "probes.json").read_text())
    for name, other in (("lr", 2e-4), ("task", "addition"), ("steps", 5), ("dim", 7)):
        changed = content | {"gradients": content["gradients"] | {name: other}}
        (tmp_path / "probes.json").write_text(json.dumps(changed))
        with pytest.raises(DataError, match="were probed"):
            recorded_pairs(tmp_path)


def test_a_gradient_that_is_not_finite_is_refused_and_nothing_is_left(tmp_path, monkeypatch):
    """What a model that overflows hands to the optimiser."""
    from estheory.training.gradient_probe import _Way

    def overflowed(way, optimizer, *rest):
        next(p for group in optimizer.param_groups for p in group["params"] if p.grad is not None).grad[0] = np.inf
        return taken(way, optimizer, *rest)

    taken = _Way.after
    monkeypatch.setattr(_Way, "after", overflowed)
    with pytest.raises(DataError, match="a gradient of the probe is not finite"):
        run_grpo(CONFIG, tmp_path / "run", before_first_step=gradient_probe)
    assert not (tmp_path / "run" / "probes.json").exists()


def test_what_cannot_be_probed_is_refused(tmp_path):
    same = replace(CONFIG, temperature=1e-4)  # all samples of a prompt alike: no reward differs
    with pytest.raises(DataError, match="no minibatch of the probe has a gradient"):
        run_grpo(same, tmp_path / "b", before_first_step=gradient_probe)
    with pytest.raises(ConfigError, match="gradient-probe"):
        replace(CONFIG, gradient_probe=1)
