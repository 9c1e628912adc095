"""Tasks one after another, by ES and GRPO: what is evaluated, kept, and resumed."""

from __future__ import annotations

import json
import math
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from estheory.errors import ConfigError, OutputError
from estheory.models.load import load_model
from estheory.models.parameters import FlatParameters
from estheory.runs.config import GRPORunConfig
from estheory.runs.directory import RunDirectory
from estheory.runs.sequence import SequenceConfig, require_same
from estheory.training.sequence import run_sequence
from tests.training.runs import es_config

TASKS = ("reversal", "addition")


def sequence_config(**changes: Any) -> SequenceConfig:
    es = es_config(task="reversal", steps=2, population=4, prompts=4, evaluation_prompts=8, checkpoint_every=0)
    grpo = GRPORunConfig(model="tiny-lm", task="reversal", steps=2, prompts=2, samples=2, lr=1e-4, evaluation_prompts=8)
    values: dict[str, Any] = {"tasks": TASKS, "configs": (es, grpo), "seeds": (3,), "retention": "all"}
    return SequenceConfig(**{**values, **changes})


@pytest.fixture(scope="module")
def sequence(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sequence") / "out"
    run_sequence(sequence_config(), folder)
    return folder


def vector(model: str) -> torch.Tensor:
    return FlatParameters(load_model(model).model).vector


def test_stages_follow_each_other_and_everything_is_evaluated(sequence: Path) -> None:
    summary = json.loads((sequence / "summary.json").read_text())
    base = vector("tiny-lm").double()
    ends = {}
    assert [(row["method"], row["seed"]) for row in summary["sequences"]] == [("es", 3), ("grpo", 3)]
    for row in summary["sequences"]:
        folder = sequence / row["method"] / "seed-3"
        stages = [vector(str(folder / f"{k}-{task}.model")).double() for k, task in enumerate(TASKS, start=1)]
        ends[row["method"]] = stages[-1] - base
        norms = [float((stages[0] - base).norm()), float((stages[1] - stages[0]).norm())]
        assert row["norm"] == pytest.approx(norms, rel=1e-9)
        assert row["norm_from_base"] == pytest.approx([norms[0], float((stages[1] - base).norm())], rel=1e-9)
        assert row["steps"] == [2, 2]
        assert len(row["accuracy"]) == len(row["kl"]) == 3
        assert row["kl"][0] == [0.0, 0.0]
        assert all(value > 0 for line in row["kl"][1:] for value in line)
        for k, task in enumerate(TASKS, start=1):
            rows = RunDirectory.open(folder / f"{k}-{task}").rows("evaluations")
            found = {(r["step"], r["task"]): r["value"] for r in rows if r["quantity"] == "accuracy"}
            assert [found[0, name] for name in TASKS] == row["accuracy"][k - 1]
            assert [found[2, name] for name in TASKS] == row["accuracy"][k]
    es, grpo = ends["es"], ends["grpo"]
    cosine = float(es @ grpo / es.norm() / grpo.norm())
    assert summary["cosines"]["of"] == ["es/seed-3", "grpo/seed-3"]
    assert math.isclose(summary["cosines"]["values"][0][1], cosine, rel_tol=1e-6, abs_tol=1e-9)


class CutError(Exception):
    pass


def test_a_sequence_that_was_cut_off_goes_on_and_keeps_what_it_should(sequence: Path, tmp_path: Path) -> None:
    seen = 0

    def cut(row: Any) -> None:
        nonlocal seen
        seen += 1
        if seen in (3, 7):
            raise CutError

    out, config = tmp_path / "out", sequence_config(retention="last")
    for _ in range(2):
        with pytest.raises(CutError):
            run_sequence(config, out, watch=lambda run: nullcontext(cut))
    lines: list[str] = []
    summary = run_sequence(config, out, say=lines.append)
    assert summary == json.loads((sequence / "summary.json").read_text())
    assert lines == ["grpo, seed 3, stage 2 of 2: addition"]
    kept = sorted(str(folder.relative_to(out)) for folder in out.glob("*/*/*.model"))
    assert kept == ["es/seed-3/2-addition.model", "grpo/seed-3/2-addition.model"]
    assert not list(out.glob("*/*/1-*/checkpoints"))
    with pytest.raises(ConfigError, match="seeds is"):
        run_sequence(sequence_config(retention="last", seeds=(3, 4)), out)
    with pytest.raises(OutputError, match="occupied"):
        run_sequence(config, out / "es")


def test_a_sequence_from_before_generators_were_named_is_the_one_with_philox(tmp_path: Path) -> None:
    es, grpo = sequence_config().configs
    of_old = sequence_config(configs=(replace(es, generator="philox"), grpo))
    content = of_old.manifest()
    del content["configs"]["es"]["generator"]
    (tmp_path / "sequence.json").write_text(json.dumps(content))
    require_same(tmp_path / "sequence.json", of_old.manifest())
    with pytest.raises(ConfigError, match="generator is 'philox' there, 'mt19937' here"):
        require_same(tmp_path / "sequence.json", sequence_config().manifest())


def test_a_budget_ends_a_stage(tmp_path: Path) -> None:
    es = es_config(steps=50, population=4, prompts=4, evaluation_prompts=8, checkpoint_every=0, stop_drift=1.5)
    grpo = GRPORunConfig(
        **{"model": "tiny-lm", "task": "x", "steps": 50, "prompts": 2, "samples": 2, "evaluation_prompts": 8},
        stop_reward=0.0,
    )
    config = SequenceConfig(tasks=("reversal",), configs=(es, grpo), seeds=(3,), retention="none")
    rows = run_sequence(config, tmp_path / "out")["sequences"]
    assert 1 < rows[0]["steps"][0] < 50
    assert rows[0]["norm"][0] >= 1.5
    assert rows[1]["steps"] == [1]
    assert not list((tmp_path / "out").glob("*/*/*.model"))
    run_sequence(config, tmp_path / "out")


@pytest.mark.parametrize(
    "change", [{"tasks": ()}, {"tasks": ("sorting", "sorting")}, {"seeds": (1, 1)}, {"retention": "some"}]
)
def test_sequences_that_cannot_be_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        sequence_config(**change)
    with pytest.raises(ConfigError):
        sequence_config(configs=(es_config(trainable="lora:2"),))
