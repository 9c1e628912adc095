"""What a GRPO run will take, told by timing steps of it."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from estheory.runs.config import GRPORunConfig
from estheory.training.grpo_trainer import STILL, Scorer, make_trainer, require_answers
from estheory.training.process import quiet, restored_random_state, torch_threads
from estheory.training.session import start_session
from estheory.training.timing import evaluation_seconds, timed

_SLOW = 1.0
"""Seconds of one group of answers beyond which the others are taken to last as long."""


def estimated_grpo_seconds(config: GRPORunConfig, *, probed: int = 0, starting: float = 0.0) -> float:
    """Return about how many seconds a GRPO run takes, from the start of its process to its last evaluation.

    Two steps are made, of which the second counts: of one group of answers where that is slow, of all otherwise.

    `probed`: minibatch gradients of the probe before step 1.
    `starting`: seconds that a process takes to import this package and torch.
    """
    with torch_threads(config.threads), quiet(), restored_random_state():
        session, loading = timed(lambda: start_session(config))
        require_answers(session)
        evaluating = evaluation_seconds(session)
        del session  # a large model is in memory once
        step, update = _step(replace(config, prompts=1))
        if step < _SLOW:
            step, _ = _step(config)
        else:
            step = update + config.prompts * (step - update)
    evaluated = 1 + sum(config.keeps_checkpoint(step) for step in range(1, config.steps + 1))
    return starting + loading + (probed + config.steps) * step + evaluated * evaluating


def _step(config: GRPORunConfig) -> tuple[float, float]:
    """Return the seconds of a step, and those of its update alone."""
    few = replace(config, steps=2, lr=STILL, schedule="constant", checkpoint_every=0, gradient_probe=0)
    session = start_session(few)
    clock = _Clock(session, few)
    scratch = Path(tempfile.mkdtemp(prefix="estheory-timing-"))
    hooks = [register_optimizer_step_pre_hook(clock.before), register_optimizer_step_post_hook(clock.after)]
    try:
        make_trainer(session, few, clock, scratch).train()
    finally:
        for hook in hooks:
            hook.remove()
        shutil.rmtree(scratch, ignore_errors=True)
    return clock.step, clock.update


class _Clock(Scorer):
    """Scores completions, and times the last step and its update."""

    step = update = _began = _updating = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Note the time."""
        self._began = perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Take the seconds of the step."""
        self.step = perf_counter() - self._began

    def before(self, *_: Any) -> None:
        """Note when an update begins."""
        self._updating = perf_counter()

    def after(self, *_: Any) -> None:
        """Take the seconds of the update."""
        self.update = perf_counter() - self._updating
