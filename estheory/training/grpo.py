"""GRPO through TRL's GRPOTrainer, recorded in the same run directory as Evolution Strategies.

Settings of the published runs (arXiv:2604.01499): no KL term, one update a batch, AdamW without weight decay, K samples
a prompt at temperature 1, rewards normalised within each prompt's group. All contact with TRL is in this module.
"""

from __future__ import annotations

import math
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from transformers import PrinterCallback, TrainerCallback

from estheory.errors import ConfigError, DataError, MissingDependencyError
from estheory.models.decode import stop_token_ids
from estheory.training.config import GRPORunConfig
from estheory.training.run_directory import Row, RunDirectory
from estheory.training.session import (
    BeforeFirstStep,
    OnStep,
    RunResult,
    Session,
    quiet,
    record_environment,
    start_session,
    stream,
    torch_threads,
    with_absolute_model,
)

try:
    from datasets import Dataset  # type: ignore[import-untyped]
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.grpo_trainer import GRPOTrainer
except ImportError as error:
    raise MissingDependencyError(f"GRPO needs TRL ({error})", "install the package trl") from error

_SAMPLING = 0x6772706F  # random stream of one seed, by purpose
_RECOMPUTED_DIM = 10_000_000  # larger models recompute activations in the backward pass to save memory


def run_grpo(
    config: GRPORunConfig,
    directory: Path,
    *,
    before_first_step: BeforeFirstStep | None = None,
    on_step: OnStep | None = None,
) -> RunResult:
    """Fine-tune a model by GRPO and record the run.

    Parameters
    ----------
    config
        The run.
    directory
        Folder to make; must be free.
    before_first_step
        Makes probes.json before step 1.
    on_step
        Called after each step with its row: step, task, reward_mean and reward_std over all completions, lr,
        grad_norm, loss, norm, and stalled (every group's rewards were equal, so no reward steered the step).

    Raises
    ------
    ConfigError, DataError, OutputError
        The model, the task or the folder cannot be used; the parameters are no longer numbers; the disk is full.
    """
    RunDirectory.require_free(directory)
    with torch_threads(config.threads), quiet(), _restored_random_state():
        session = start_session(config)
        if any(example.options for example in session.training_examples(1)):
            raise ConfigError("GRPO samples answers, it cannot compare options", "use --form few-shot or chat")
        config = with_absolute_model(config)
        run = RunDirectory.create(directory, config)
        record_environment(session, run)
        if before_first_step is not None:
            run.write_json("probes.json", before_first_step(session))
            session.parameters.vector.copy_(session.base)
        session.settle(run, 0)
        recorder = _Recorder(session, config, run, on_step)
        with tempfile.TemporaryDirectory() as scratch:
            _trainer(session, config, recorder, scratch).train()
        session.loaded.model.train(False)
    return RunResult(
        directory=directory, step=recorder.row["step"], norm=recorder.row["norm"], stalled_steps=recorder.stalled
    )


class _SilentTrainer(GRPOTrainer):
    """A GRPOTrainer that reports to nobody."""

    def _send_telemetry(self) -> None:
        """Send nothing; TRL would report each trainer's use to the hub."""


class _Recorder(TrainerCallback):
    """Scores completions, and writes the run directory as the trainer proceeds."""

    def __init__(
        self, session: Session, config: GRPORunConfig, directory: RunDirectory, on_step: OnStep | None
    ) -> None:
        self.session = session
        self.config = config
        self.directory = directory
        self.on_step = on_step
        self.examples = [example for step in range(config.steps) for example in session.training_examples(step + 1)]
        self.row: Row = {}
        self.stalled = 0
        self._rewards: list[float] = []
        self._started = 0.0

    def score(self, completions: list[str], index: list[int], **_: object) -> list[float | None]:
        """Return the reward of each completion; `index` holds the position of its example."""
        task = self.session.task
        self._rewards = [
            task.score(self.examples[k], text.split("\n", 1)[0] if task.single_line else text)
            for k, text in zip(index, completions, strict=True)
        ]
        return list(self._rewards)

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
        self.stalled += stalled
        self.row = {
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
        self.directory.append("steps", self.row)
        self.directory.append("timings", {"step": state.global_step, "seconds": perf_counter() - self._started})
        self.session.loaded.model.train(False)
        self.session.settle(self.directory, state.global_step)
        self.session.loaded.model.train(True)
        if self.on_step is not None:
            self.on_step(self.row)


def _trainer(session: Session, config: GRPORunConfig, recorder: _Recorder, scratch: str) -> GRPOTrainer:
    """Return the trainer of a run: `prompts` x `samples` completions, one AdamW update a step."""
    model, tokenizer = session.loaded.model, session.loaded.tokenizer
    trained = set(session.parameters.names)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trained)
    # stop where greedy decoding stops
    stops = stop_token_ids(tokenizer) if session.task.single_line else (tokenizer.eos_token_id,)
    model.generation_config.eos_token_id = list(stops)
    on_cpu = session.parameters.vector.device.type == "cpu"
    arguments = GRPOConfig(
        output_dir=scratch,
        max_steps=config.steps,
        per_device_train_batch_size=config.prompts * config.samples,
        num_generations=config.samples,
        max_completion_length=session.task.max_new_tokens,
        temperature=1.0,
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
        seed=int(stream(config.seed, _SAMPLING).generate_state(1)[0]) >> 1,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    rows = Dataset.from_dict(
        {"prompt": [example.prompt for example in recorder.examples], "index": list(range(len(recorder.examples)))}
    )
    trainer = _SilentTrainer(
        model=model,
        reward_funcs=recorder.score,
        args=arguments,
        train_dataset=rows,
        processing_class=tokenizer,
        callbacks=[recorder],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


@contextmanager
def _restored_random_state() -> Iterator[None]:
    """Give Python's, numpy's and torch's global generators back as they were; the trainer seeds all three."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002
