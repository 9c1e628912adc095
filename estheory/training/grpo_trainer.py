"""TRL's GRPOTrainer made to record a run directory. All contact with TRL is in this module."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from transformers import PrinterCallback, TrainerCallback

from estheory.errors import ConfigError, DataError, MissingDependencyError
from estheory.models.decode import stop_token_ids
from estheory.runs.config import GRPORunConfig
from estheory.runs.directory import Row, RunDirectory
from estheory.training.session import OnStep, Session
from estheory.training.streams import GRPO_SAMPLING, stream

try:
    from datasets import Dataset
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.grpo_trainer import GRPOTrainer
except ImportError as error:
    raise MissingDependencyError(f"GRPO needs TRL ({error})", "install the package trl") from error

STILL = 1e-30
"""A learning rate that moves no weight."""

_RECOMPUTED_DIM = 10_000_000  # larger models recompute activations in the backward pass to save memory


def trainer_states(run: RunDirectory) -> dict[int, Path]:
    """Return the trainer's own checkpoints: optimizer, schedule, random state."""
    found = run.path.glob("checkpoints/step_*.trainer")
    return {int(folder.stem.partition("_")[2]): folder for folder in found}


class _RecordingTrainer(GRPOTrainer):
    """A GRPOTrainer that reports to nobody and leaves the weights of its checkpoints to the run directory."""

    def _send_telemetry(self) -> None:
        """Send nothing; TRL would report each trainer's use to the hub."""

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Make the checkpoint's folder alone."""
        if output_dir is not None:
            Path(output_dir).mkdir(parents=True, exist_ok=True)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Leave the weights as they are: the run directory's checkpoint was read into them."""


class Scorer(TrainerCallback):
    """Scores completions of the prompts of a run's steps.

    `session`, `config`: the run.
    `probe`: whether the prompts are those of a probe's batches.
    """

    def __init__(self, session: Session, config: GRPORunConfig, *, probe: bool = False) -> None:
        self.session = session
        self.config = config
        steps = range(config.steps) if probe else range(1, config.steps + 1)
        self.examples = [example for step in steps for example in session.training_examples(step, probe=probe)]
        self._rewards: list[float] = []

    def score(self, completions: list[str], index: list[int], **_: object) -> list[float | None]:
        """Return the reward of each completion."""
        task = self.session.task
        self._rewards = [
            task.score(self.examples[k], text.split("\n", 1)[0] if task.single_line else text)
            for k, text in zip(index, completions, strict=True)
        ]
        return list(self._rewards)


class Recorder(Scorer):
    """Scores completions, and writes the run directory as the trainer proceeds.

    `session`, `config`, `directory`: the run and its folder.
    """

    def __init__(
        self, session: Session, config: GRPORunConfig, directory: RunDirectory, on_step: OnStep | None
    ) -> None:
        super().__init__(session, config)
        self.directory = directory
        self.on_step = on_step
        self._started = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Note the time."""
        self._started = perf_counter()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        """Record the step that has just been taken; the trainer logs after every one."""
        if logs is None or "loss" not in logs:  # the summary at the end
            return
        norm = self.session.displacement_norm(self.session.parameters.vector)
        if not math.isfinite(norm):
            raise DataError(f"step {state.global_step} left parameters that are no numbers", "lower lr")
        groups = np.asarray(self._rewards).reshape(self.config.prompts, self.config.samples)
        stalled = bool((groups == groups[:, :1]).all())
        row: Row = {
            "step": state.global_step,
            "task": self.config.task,
            "reward_mean": float(groups.mean()),
            "reward_std": float(groups.std()),
            "lr": logs["learning_rate"],
            "grad_norm": logs["grad_norm"],
            "loss": logs["loss"],
            "norm": norm,
            "stalled": stalled,
        }
        self.directory.append("steps", row)
        self.directory.append("timings", {"step": state.global_step, "seconds": perf_counter() - self._started})
        self.session.loaded.model.train(False)
        last = self.config.is_last(row)
        self.session.settle(self.directory, state.global_step, last=last)
        self.session.loaded.model.train(True)
        if last:
            control.should_save = control.should_training_stop = True
        if self.on_step is not None:
            self.on_step(row)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Rename the trainer's checkpoint, which is whole now, and remove older ones.

        Each step is one generation and one update, so that no rollout buffer outlives a checkpoint.
        """
        checkpoints = self.directory.path / "checkpoints"
        older = list(trainer_states(self.directory).values())
        made = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        made.replace(checkpoints / f"step_{state.global_step:06d}.trainer")
        for folder in older:
            shutil.rmtree(folder, ignore_errors=True)


def require_answers(session: Session) -> None:
    """Refuse a task whose options are compared by their likelihood."""
    if any(example.options for example in session.training_examples(1)):
        raise ConfigError("GRPO samples answers, it cannot compare options", "use --form few-shot or chat")


def make_trainer(session: Session, config: GRPORunConfig, scorer: Scorer, scratch: Path) -> GRPOTrainer:
    """Return the trainer of a run: `prompts` x `samples` completions, one AdamW update a step.

    `scorer`: scores the completions; a recorder writes the run's folder, too.
    """
    model, tokenizer = session.loaded.model, session.loaded.tokenizer
    trained = set(session.parameters.names)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trained)
    # stop where greedy decoding stops
    stops = stop_token_ids(tokenizer) if session.task.single_line else (tokenizer.eos_token_id,)
    model.generation_config.eos_token_id = list(stops)
    on_cpu = session.parameters.vector.device.type == "cpu"
    arguments = GRPOConfig(
        output_dir=str(scratch),
        max_steps=config.steps,
        per_device_train_batch_size=config.prompts * config.samples,
        num_generations=config.samples,
        max_completion_length=session.task.max_new_tokens,
        temperature=config.temperature,
        top_p=config.top_p,
        beta=0.0,
        num_iterations=1,
        scale_rewards="group",
        shuffle_dataset=False,
        learning_rate=config.lr,
        lr_scheduler_type=config.schedule,
        weight_decay=0.0,
        gradient_checkpointing=session.parameters.dim > _RECOMPUTED_DIM,
        use_cpu=on_cpu,
        bf16=False,
        seed=int(stream(config.seed, GRPO_SAMPLING).generate_state(1)[0]) >> 1,
        logging_steps=1,
        save_strategy="steps" if isinstance(scorer, Recorder) else "no",
        save_steps=config.checkpoint_every or config.steps,
        report_to="none",
        disable_tqdm=True,
    )
    rows = Dataset.from_dict(
        {"prompt": [example.prompt for example in scorer.examples], "index": list(range(len(scorer.examples)))}
    )
    trainer = _RecordingTrainer(
        model=model,
        reward_funcs=scorer.score,
        args=arguments,
        train_dataset=rows,
        processing_class=tokenizer,
        callbacks=[scorer],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer
