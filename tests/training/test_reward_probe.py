"""The probe of a run's reward: made once, before step 1, from noise and prompts that no step uses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from estheory.errors import ConfigError
from estheory.runs.directory import RunDirectory
from estheory.training.es import resume, run_es
from estheory.training.reward_probe import reward_probe
from estheory.training.reward_probe_size import PAIRS, probe_batches, why_unprobed
from estheory.training.run_probes import probes_before
from estheory.training.session import start_session
from tests.training.runs import es_config

PROBED = {"steps": 120, "population": 8, "prompts": 6, "checkpoint_every": 40}


@pytest.fixture(scope="module")
def probe() -> dict[str, Any]:
    session = start_session(es_config(**PROBED), evaluates=False)
    found = dict(reward_probe(session))
    session.parameters.vector.fill_(0.5)  # the buffer may hold anything
    again = dict(reward_probe(session))
    for content in (found, again):
        content["reward"] = {k: v for k, v in content["reward"].items() if k != "seconds"}  # type: ignore[union-attr, attr-defined]
    assert again == found
    return found


def test_estimates_have_errors_and_a_cost(probe: dict[str, Any]) -> None:
    reward = probe["reward"]
    config = es_config(**PROBED)
    assert reward["batches"] == probe_batches(config) == int(0.1 * 120 * 8 / 9)
    assert reward["evaluations"] == reward["batches"] * (2 * PAIRS + 1)
    assert reward["share_of_run"] <= 0.1
    assert set(reward["estimates"]) >= {"member_reward_std", "noise_std", "reliability", "gradient_norm", "trace"}
    assert reward["estimates"]["member_reward_std"]["stderr"] > 0
    assert np.shape(reward["moments"]) == (reward["batches"], 5)
    quantities = {row["quantity"] for row in probe["predictions"]}
    assert {"reward_reliability", "member_reward_std"} <= quantities
    assert json.dumps(probe, allow_nan=False)


def test_the_probe_uses_no_noise_and_no_prompts_of_the_run() -> None:
    session = start_session(es_config(**PROBED), evaluates=False)
    own = {example.prompt for step in range(1, 5) for example in session.training_examples(step)}
    probed = {example.prompt for batch in range(4) for example in session.training_examples(batch, probe=True)}
    assert len(own & probed) < len(own) / 2
    other = start_session(es_config(**PROBED, seed=4), evaluates=False)
    assert session.training_examples(0, probe=True) != other.training_examples(0, probe=True)


def test_permuted_runs_are_predicted_to_walk(probe: dict[str, Any]) -> None:
    session = start_session(es_config(**PROBED, permute_rewards=True), evaluates=False)
    control = reward_probe(session)
    assert control["reward"]["moments"] == probe["reward"]["moments"]  # type: ignore[index]
    quantities = {row["quantity"] for row in control["predictions"]}  # type: ignore[attr-defined]
    assert "progress_per_step" not in quantities


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"steps": 4}, "more than 10%"),
        ({"dtype": "bfloat16"}, "rounds"),
        ({"train_set": 16}, "fixed training set"),
        ({"prompts": 2}, "3 prompts"),
    ],
)
def test_runs_without_a_probe_say_why(changes: dict[str, object], why: str) -> None:
    assert why in why_unprobed(es_config(**{**PROBED, **changes}))
    assert not why_unprobed(es_config(**PROBED))


@pytest.mark.slow
def test_probes_are_made_once_and_kept(tmp_path: Path) -> None:
    """A run that is cut off keeps them on resuming, and they change nothing of the run."""
    changes = {"steps": 8, "population": 100, "prompts": 6, "checkpoint_every": 0, "evaluation_prompts": 4}

    def cut(row: Any) -> None:
        if row["step"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_es(es_config(**changes), tmp_path / "run", before_first_step=probes_before, on_step=cut)
    made = (tmp_path / "run" / "probes.json").read_bytes()
    assert json.loads(made)["reward"]["batches"] == 8
    resume(tmp_path / "run", before_first_step=probes_before)
    assert (tmp_path / "run" / "probes.json").read_bytes() == made
    run_es(es_config(**changes), tmp_path / "bare")
    steps = [RunDirectory.open(tmp_path / name).steps() for name in ("run", "bare")]
    assert steps[0] == steps[1]


def test_half_rewards_are_of_every_other_prompt(finished: Path) -> None:
    for row in RunDirectory.open(finished).steps():
        assert all(half * 4 == int(half * 4) for half in row["half_rewards"])  # accuracy on four of eight prompts
        other = 2 * np.array(row["rewards"]) - row["half_rewards"]
        assert ((other >= 0) & (other <= 1)).all()
        assert row["half_rewards"] != row["rewards"]


def test_only_es_is_probed() -> None:
    from estheory.runs.config import GRPORunConfig

    session = start_session(GRPORunConfig(model="tiny-lm", task="reversal", steps=1), evaluates=False)
    with pytest.raises(ConfigError, match="ES"):
        reward_probe(session)
