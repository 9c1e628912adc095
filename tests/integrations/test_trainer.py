"""The geometry callback in real trainings of tiny-lm, by transformers' Trainer and by TRL."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import TrainerCallback

from estheory.errors import ConfigError
from estheory.integrations.trainer import GeometryCallback
from estheory.models.load import load_model
from estheory.tasks import get_task
from estheory.theory.adamw import grpo_mean_square

STEPS = 6


class Snapshots(TrainerCallback):
    """Keeps every state of the parameters, to compute the geometry from scratch."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.model, self.states = model, []
        self.on_step_end()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.states.append(torch.nn.utils.parameters_to_vector(self.model.parameters()).detach().double())


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(a @ b / a.norm() / b.norm())


def arguments(folder: Path, kind: Any, **more: Any) -> Any:
    return kind(
        output_dir=str(folder),
        max_steps=STEPS,
        learning_rate=1e-4,
        lr_scheduler_type="linear",
        weight_decay=0.0,
        use_cpu=True,
        bf16=False,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        **more,
    )


def check(geometry: GeometryCallback, states: list[torch.Tensor]) -> None:
    """Every figure against its definition on whole vectors."""
    moved = [state - states[0] for state in states]
    rows = geometry.rows
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    for t, row in enumerate(rows, start=1):
        # the callback subtracts in float32, where the start's own rounding cancels
        assert row["displacement_norm"] == pytest.approx(float(moved[t].norm()), rel=1e-5)
        assert row["step_norm"] == pytest.approx(float((moved[t] - moved[t - 1]).norm()), rel=1e-4)
        predicted = math.sqrt(grpo_mean_square(moved[0].numel(), 1e-4, STEPS)) if t == STEPS else row["predicted_norm"]
        assert row["predicted_norm"] == pytest.approx(predicted, rel=1e-12)
        if t > 1:
            assert row["checkpoint_cosine"] == pytest.approx(cosine(moved[t], moved[t - 1]), rel=1e-4)
            before = moved[t - 1] - moved[t - 2]
            assert row["increment_cosine"] == pytest.approx(cosine(moved[t] - moved[t - 1], before), abs=1e-4)
    norms = np.array([float(vector.norm()) for vector in moved[1:]])
    slope = np.polyfit(np.log(np.arange(1, STEPS + 1)), np.log(norms**2), 1)[0]
    assert rows[-1]["exponent"] == pytest.approx(slope, rel=1e-4)
    assert "exponent" not in rows[0]


def test_in_a_grpo_trainer(tmp_path: Path) -> None:
    trl = pytest.importorskip("trl")
    from datasets import Dataset

    loaded = load_model("tiny-lm")
    examples = get_task("reversal").examples("train", 24, 0)
    data = Dataset.from_dict({"prompt": [e.prompt for e in examples], "answer": [e.reference for e in examples]})

    def reward(completions: list[str], answer: list[str], **_: Any) -> list[float]:
        return [float(k % 3) for k, _ in enumerate(completions)]  # never equal within a group: every step moves

    keep = Snapshots(loaded.model)
    geometry = GeometryCallback(path=tmp_path / "geometry.jsonl", lr=1e-4)
    more = {"per_device_train_batch_size": 8, "num_generations": 4, "max_completion_length": 6, "beta": 0.0}
    trainer = trl.GRPOTrainer(
        model=loaded.model,
        reward_funcs=reward,
        args=arguments(tmp_path, trl.GRPOConfig, **more),
        train_dataset=data,
        processing_class=loaded.tokenizer,
        callbacks=[geometry, keep],
    )
    trainer.train()
    check(geometry, keep.states)
    assert [json.loads(line) for line in (tmp_path / "geometry.jsonl").read_text().splitlines()] == geometry.rows
    logged = [entry for entry in trainer.state.log_history if "geometry/displacement_norm" in entry]
    assert [entry["geometry/displacement_norm"] for entry in logged[:STEPS]] == [
        row["displacement_norm"] for row in geometry.rows
    ]


def test_in_a_plain_trainer_with_part_of_the_model_frozen(tmp_path: Path) -> None:
    from transformers import Trainer, TrainingArguments

    loaded = load_model("tiny-lm")
    for name, parameter in loaded.model.named_parameters():
        parameter.requires_grad_("layers.1" in name)
    rows = [
        loaded.tokenizer(e.prompt + e.reference)["input_ids"][:26]
        for e in get_task("reversal").examples("train", 24, 0)
    ]
    data = [{"input_ids": row[:25], "labels": row[:25]} for row in rows]
    keep, geometry = Snapshots(loaded.model), GeometryCallback(lr=1e-4)
    Trainer(
        model=loaded.model,
        args=arguments(tmp_path, TrainingArguments, per_device_train_batch_size=4),
        train_dataset=data,
        callbacks=[geometry, keep],
    ).train()
    moved = keep.states[-1] - keep.states[0]
    assert geometry.rows[-1]["displacement_norm"] == pytest.approx(float(moved.norm()), rel=1e-5)
    count = sum(p.numel() for p in loaded.model.parameters() if p.requires_grad)
    assert geometry.rows[-1]["predicted_norm"] == pytest.approx(math.sqrt(grpo_mean_square(count, 1e-4, STEPS)))


def test_an_interval_must_be_positive_and_is_kept() -> None:
    with pytest.raises(ConfigError, match="no interval"):
        GeometryCallback(every=0)
    model = torch.nn.Linear(2, 2)
    geometry = GeometryCallback(every=2)

    class State:
        global_step = 0
        max_steps = 4

    geometry.on_train_begin(None, State, None, model=model)
    for State.global_step in (1, 2, 3, 4):
        geometry.on_step_end(None, State, None, model=model)
    assert [row["step"] for row in geometry.rows] == [2, 4]
    assert geometry.rows[-1] == {"step": 4, "displacement_norm": 0.0, "step_norm": 0.0}


def test_a_resumed_training_counts_steps_from_its_start() -> None:
    """20 AdamW steps on noise after 20 others: the moments are warm, the displacement begins at 0."""
    torch.manual_seed(0)
    weights = torch.nn.Parameter(torch.zeros(20_000))
    optimiser = torch.optim.AdamW([weights], lr=1e-3, weight_decay=0.0)
    model = torch.nn.Module()
    model.weights = weights
    geometry = GeometryCallback(lr=1e-3, schedule="constant")

    class State:
        global_step = 0
        max_steps = 40

    for State.global_step in range(1, 41):
        weights.grad = torch.randn_like(weights)
        if State.global_step == 21:
            State.global_step = 20
            geometry.on_train_begin(None, State, None, model=model)
            State.global_step = 21
        optimiser.step()
        geometry.on_step_end(None, State, None, model=model)
    last = geometry.rows[-1]
    assert last["step"] == 40
    assert last["norm_ratio"] == pytest.approx(1, abs=0.05)  # 5 standard errors of 20,000 correlated weights
    assert last["exponent"] < 2  # momentum is between a walk and a straight line; against steps since 0 it is above 4
