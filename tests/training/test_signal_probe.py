"""KL along what the members of a run's probe have in common."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("transformers")

from estheory.measurement.run_log import task_drifts
from estheory.runs.config import ESRunConfig
from estheory.training.reward_probe import reward_probe
from estheory.training.run_probes import probes_before
from estheory.training.session import start_session
from estheory.training.signal_probe import signal_probe

CONFIG = ESRunConfig(
    model="tiny-lm", task="reversal", steps=90, sigma=0.015, alpha=0.0075, population=8, prompts=16,
    evaluation_prompts=8, evaluation_tasks=("reversal", "addition"),
)  # fmt: skip


@pytest.fixture(scope="module")
def probed():
    """A session and what its reward's probe found."""
    session = start_session(CONFIG)
    return session, reward_probe(session)["reward"]


def test_it_compares_one_update_with_permuted_ones_on_every_task(probed):
    session, reward = probed
    before = session.base.clone()
    found = signal_probe(session, CONFIG, reward)
    assert (session.parameters.vector == before).all()
    assert [row["task"] for row in found["tasks"]] == [held.task.name for held in session.held]
    assert len(found["tasks"]) == 2
    assert found["members"] == 2 * np.size(reward["half_differences"]) == 8 * reward["batches"]
    for row in found["tasks"]:
        assert row["kl"] > 0
        assert row["curvature_stderr"] > 0
        assert row["curvature"] == pytest.approx(
            2 * (row["kl"] - row["kl_permuted"]) / found["coherent_displacement"] ** 2
        )
    again = signal_probe(session, CONFIG, reward)
    assert again["tasks"] == found["tasks"]


def test_members_that_do_not_differ_tell_nothing(probed):
    session, reward = probed
    assert signal_probe(session, CONFIG, None) is None
    assert signal_probe(session, CONFIG, reward | {"half_differences": [[0.0]]}) is None
    sunk = (-np.abs(np.array(reward["moments"]))).tolist()
    assert signal_probe(session, CONFIG, reward | {"moments": sunk}) is None


def test_it_stands_in_probes_json_beside_the_walks(probed):
    session, _ = probed
    content = probes_before(session)
    drift = task_drifts(content)
    assert set(drift) == {"reversal", "addition"}
    assert drift["reversal"].trace == next(
        row["trace"] for row in content["fisher"] if row["task"] == "reversal" and row["scale"] == "walk"
    )
    assert task_drifts(content | {"signal": None}) == {}
    half = replace(CONFIG, dtype="bfloat16")
    assert probes_before(start_session(half))["signal"] is None
