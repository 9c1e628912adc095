"""What is evaluated beside the members: recorded as it is, by any executor, and without a trace in the run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from estheory.errors import ConfigError
from estheory.measurement.accuracy import ExampleScorer
from estheory.runs.directory import RunDirectory
from estheory.training.es import resume, run_es
from estheory.training.replay import replay
from estheory.training.session import start_session
from estheory.training.trajectory import run_noise
from tests.training.runs import contents, es_config
from tests.training.test_executors import cluster  # noqa: F401

PROBE: dict[str, Any] = {"before_first_step": lambda session: {"trace": session.parameters.dim}}


def own(directory: Path) -> dict[str, bytes]:
    """What the run did: everything but its configuration."""
    return {name: content for name, content in contents(directory).items() if name != "config.toml"}


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of the fixture `finished`, with partners in steps 1 and 3."""
    directory = tmp_path_factory.mktemp("watched") / "es"
    run_es(es_config(mirror_every=2), directory, **PROBE)
    return directory


def test_they_never_move_the_run(watched: Path, finished: Path) -> None:
    assert own(watched) == own(finished)
    rewards = (watched / "rewards.jsonl").read_text()
    plain = [json.loads(line) for line in (finished / "rewards.jsonl").read_text().splitlines()]
    rows = [json.loads(line) for line in rewards.splitlines()]
    assert ["watched" in row for row in rows] == [True, False, True, False]
    assert [{k: v for k, v in row.items() if k != "watched"} for row in rows] == plain


@pytest.mark.slow
def test_two_processes_record_the_same(watched: Path, finished: Path, tmp_path: Path) -> None:
    run_es(es_config(mirror_every=2, workers=2), tmp_path / "two", **PROBE)
    assert own(tmp_path / "two") == own(finished)
    assert (tmp_path / "two" / "rewards.jsonl").read_text() == (watched / "rewards.jsonl").read_text()


@pytest.mark.slow
def test_ray_records_the_same(cluster: Any, watched: Path, finished: Path, tmp_path: Path) -> None:  # noqa: F811
    run_es(es_config(mirror_every=2, executor="ray", workers=3), tmp_path / "ray", **PROBE)
    assert own(tmp_path / "ray") == own(finished)
    assert (tmp_path / "ray" / "rewards.jsonl").read_text() == (watched / "rewards.jsonl").read_text()


@pytest.mark.parametrize("whole", [1, 2])
def test_a_run_that_is_cut_off_goes_on_with_the_same(whole: int, watched: Path, tmp_path: Path) -> None:
    def cut(row: Mapping[str, Any]) -> None:
        if row["step"] == whole:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_es(es_config(mirror_every=2), tmp_path / "run", on_step=cut, **PROBE)
    with (tmp_path / "run" / "rewards.jsonl").open("a") as file:
        file.write((watched / "rewards.jsonl").read_text().splitlines()[whole][:30])
    resume(tmp_path / "run")
    assert contents(tmp_path / "run") == contents(watched)
    assert (tmp_path / "run" / "rewards.jsonl").read_text() == (watched / "rewards.jsonl").read_text()


def test_the_record_is_of_theta_less_the_noise_and_of_theta(watched: Path) -> None:
    config, kept = es_config(mirror_every=2), RunDirectory.open(watched).prompt_rewards()
    session = start_session(config, evaluates=False)
    theta, noise = replay(watched, 2), run_noise(config, session.parameters)
    scorer = ExampleScorer(
        session.loaded.model, session.loaded.tokenizer, session.task, session.training_examples(3), scoring="accuracy"
    )
    found = kept[3]
    assert found.partners is not None
    assert found.centre is not None
    for member in (0, 5):
        noise.perturb(session.parameters.vector, theta, sigma=-config.sigma, step=3, member=member)
        assert np.array_equal(scorer.scores(None), found.partners[member])
    session.parameters.vector.copy_(theta)
    assert np.array_equal(scorer.scores(None), found.centre)
    assert found.partners.shape == found.members.shape
    assert not np.array_equal(found.partners, found.members)
    record = RunDirectory.open(watched).record().steps
    assert [step.mirror_rewards is not None for step in record] == [True, False, True, False]
    assert [step.centre_reward is not None for step in record] == [True, False, True, False]


def test_mirrored_members_need_theta_alone(tmp_path: Path) -> None:
    config = es_config(antithetic=True, mirror_every=1, steps=2)
    assert [config.evaluated(step) for step in (1, 2)] == [7, 7]
    run_es(config, tmp_path / "run")
    for rewards in RunDirectory.open(tmp_path / "run").prompt_rewards().values():
        assert rewards.partners is None
        assert rewards.centre is not None


def test_they_need_rewards_by_prompt() -> None:
    with pytest.raises(ConfigError, match="rewards by prompt"):
        es_config(mirror_every=2, drop_prompt_rewards=True)
