"""GRPO through TRL's GRPOTrainer, recorded in the same run directory as Evolution Strategies.

Settings of the published runs (arXiv:2604.01499): no KL term, one update a batch, AdamW without weight decay, K samples
a prompt at temperature 1, rewards normalised within each prompt's group. All contact with TRL is in this module.
"""

from __future__ import annotations

import math
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from transformers import PrinterCallback, TrainerCallback

from estheory.errors import ConfigError, DataError, MissingDependencyError, OutputError
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
        return _run(session, config, RunDirectory.create(directory, config), before_first_step, on_step)


def resume_grpo(
    directory: Path, *, before_first_step: BeforeFirstStep | None = None, on_step: OnStep | None = None
) -> RunResult:
    """Continue a GRPO run that was cut off, from its last checkpoint; its result has the bits of an uninterrupted run.

    What was recorded after that checkpoint is made again. A run that is complete is left as it is. Parameters as for
    `run_grpo`.

    Raises
    ------
    ConfigError, DataError, OutputError
        As for `run_grpo`; also where the folder holds no GRPO run, its record is damaged or its model has changed.
    """
    run = RunDirectory.open(directory)
    config = run.config
    if not isinstance(config, GRPORunConfig):
        raise ConfigError(f"{directory} is a run of {config.method}, not grpo", f"use estheory run {config.method}")
    with torch_threads(config.threads), quiet(), _restored_random_state():
        session = start_session(config)
        run.repair()
        return _run(session, config, run, before_first_step, on_step)


def _run(
    session: Session,
    config: GRPORunConfig,
    run: RunDirectory,
    before_first_step: BeforeFirstStep | None,
    on_step: OnStep | None,
) -> RunResult:
    """Go on from the last checkpoint to the end."""
    record_environment(session, run)
    start = max((step for step in _trainer_states(run) if run.checkpoint(step).exists()), default=0)
    recorded = run.steps()
    if start > len(recorded):
        raise DataError(f"{run.path / 'steps.jsonl'} ends before checkpoint {start}", "restore the file")
    if len(recorded) > start:
        run.keep_until(start)
    if not recorded and before_first_step is not None and run.read_json("probes.json") is None:
        run.write_json("probes.json", before_first_step(session))
        session.parameters.vector.copy_(session.base)
    if start:
        session.parameters.read_safetensors(run.checkpoint(start))
        norm = session.displacement_norm(session.parameters.vector)
        if norm != recorded[start - 1]["norm"]:
            raise DataError(
                f"{run.checkpoint(start)} is not what the run recorded (norm {norm!r})", "restore the checkpoint"
            )
    done = bool(start) and config.is_last(recorded[start - 1])
    session.settle(run, start, last=done)
    recorder = _Recorder(session, config, run, on_step)
    if not done:
        scratch = run.path / "checkpoints" / "trainer.tmp"
        state = _trainer_states(run).get(start)
        try:
            _trainer(session, config, recorder, scratch).train(resume_from_checkpoint=str(state) if state else None)
        except OSError as error:
            raise OutputError(
                f"cannot write in {scratch}: {error}", "free space, then continue with --resume"
            ) from error
        finally:
            session.loaded.model.train(False)
        shutil.rmtree(scratch, ignore_errors=True)
    rows = run.steps()
    return RunResult(
        directory=run.path,
        step=len(rows),
        norm=rows[-1]["norm"],
        stalled_steps=sum(row["stalled"] for row in rows),
    )


def _trainer_states(run: RunDirectory) -> dict[int, Path]:
    """Return the trainer's own checkpoints (optimizer, schedule, random state) by step."""
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
        older = list(_trainer_states(self.directory).values())
        made = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        made.replace(checkpoints / f"step_{state.global_step:06d}.trainer")
        for folder in older:
            shutil.rmtree(folder, ignore_errors=True)


def _trainer(session: Session, config: GRPORunConfig, recorder: _Recorder, scratch: Path) -> GRPOTrainer:
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
        output_dir=str(scratch),
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
        save_strategy="steps",
        save_steps=config.checkpoint_every or config.steps,
        report_to="none",
        disable_tqdm=True,
    )
    rows = Dataset.from_dict(
        {"prompt": [example.prompt for example in recorder.examples], "index": list(range(len(recorder.examples)))}
    )
    trainer = _RecordingTrainer(
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
