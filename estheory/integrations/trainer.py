"""A callback for TRL's and transformers' trainers that measures where the weights go while they go.

```python
from estheory.integrations.trainer import GeometryCallback

geometry = GeometryCallback(lr=1e-5, schedule="linear")
trainer = GRPOTrainer(..., callbacks=[geometry])
trainer.train()
geometry.rows[-1]["displacement_norm"]
```
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import TrainerCallback

from estheory.errors import ConfigError, OutputError
from estheory.theory.adamw import Schedule, learning_rates, walk_factor

_BLOCK = 1 << 20


class GeometryCallback(TrainerCallback):
    """Logs displacement, its exponent and its cosines, live.

    Each measurement has ``step``; ``displacement_norm``, ||theta - theta_0|| over the parameters that require a
    gradient, tied ones once; ``step_norm``, the length moved since the last measurement; ``checkpoint_cosine``, the
    cosine of the displacements now and then, which a random walk from theta_0 puts at sqrt(t1 / t2);
    ``increment_cosine``, that of the last two increments, 0 for a walk and 1 for a straight line; and ``exponent``,
    the least-squares slope of log ||theta - theta_0||^2 against log step over all measurements so far: 1 for a walk,
    2 for a straight line; steps count from where a resumed training began. With `lr`, also ``predicted_norm``, the
    AdamW walk of dense gradient noise, and its ratio.
    They go into `rows`; as ``geometry/...`` into the trainer's log history and the reports of callbacks that come after
    this one (for a tracker to show them: ``trainer.callback_handler.callbacks.insert(0, geometry)``); and into a
    JSONL file if one is named. What is not defined yet is left out.

    Sums are in float64. Memory: the start, the last displacement and the last increment, each once in float32, on
    the parameters' device. Sharded parameters are not gathered: use it where each process holds the whole model.

    Parameters
    ----------
    every
        Optimizer steps between measurements.
    path
        JSONL file to append the measurements to.
    lr, schedule
        AdamW's peak learning rate and its schedule over the trainer's steps, for the predicted norm.

    Raises
    ------
    ConfigError
        `every` is not positive.
    """

    def __init__(
        self, *, every: int = 1, path: Path | None = None, lr: float | None = None, schedule: Schedule = "linear"
    ) -> None:
        if every < 1:
            raise ConfigError(f"every = {every} steps is no interval", "use 1 or more")
        self.rows: list[dict[str, float]] = []
        self._every, self._path, self._lr, self._schedule = every, path, lr, schedule
        self._start: list[Tensor] = []
        self._begun = 0
        self._displacement: list[Tensor] = []
        self._increment: list[Tensor] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, model: nn.Module | None = None, **_: Any) -> None:
        """Take the start. A resumed training starts anew: displacement and steps count from where it resumed."""
        self._begun = int(state.global_step)
        self._start = [p.detach().float().clone() for p in _trained(model)]
        self._displacement, self._increment, self.rows = [], [], []

    def on_step_end(self, args: Any, state: Any, control: Any, model: nn.Module | None = None, **_: Any) -> None:
        """Measure, every so many steps."""
        step = int(state.global_step)
        if step % self._every or not self._start:
            return
        now = [p.detach().float() - start for p, start in zip(_trained(model), self._start, strict=True)]
        norm = math.sqrt(_dot(now, now))
        row: dict[str, float] = {"step": step, "displacement_norm": norm}
        before = self._displacement
        increment = [a - b for a, b in zip(now, before, strict=True)] if before else now
        row["step_norm"] = math.sqrt(_dot(increment, increment))
        if before:
            row |= _cosine("checkpoint_cosine", now, before) | _cosine("increment_cosine", increment, self._increment)
        self._displacement, self._increment = now, increment
        self.rows.append(row)
        moved = [
            (entry["step"] - self._begun, entry["displacement_norm"])
            for entry in self.rows
            if entry["displacement_norm"] > 0
        ]
        if len(moved) > 1:
            x, y = np.log(np.array(moved)).T
            row["exponent"] = float(2 * np.polyfit(x, y, 1)[0])
        if self._lr is not None:
            dim = sum(start.numel() for start in self._start)
            rates = learning_rates(int(state.max_steps), self._schedule)[:step]
            rates[: self._begun] = 0.0  # AdamW's moments were made by these steps, the displacement was not
            row["predicted_norm"] = self._lr * math.sqrt(dim * walk_factor(rates) * float(rates @ rates))
            row["norm_ratio"] = norm / row["predicted_norm"]
        self._write(row)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """Add the last measurement to the trainer's history, and to what later callbacks report."""
        if logs is None or not self.rows:
            return
        named = {f"geometry/{name}": value for name, value in self.rows[-1].items() if name != "step"}
        logs |= named
        if state.log_history and state.log_history[-1].get("step") == state.global_step:
            state.log_history[-1] |= named

    def _write(self, row: dict[str, float]) -> None:
        if self._path is None:
            return
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise OutputError(f"cannot write {self._path}: {error}", "choose another file") from error


def _trained(model: nn.Module | None) -> Iterator[nn.Parameter]:
    """Return the parameters that require a gradient; tied ones come once."""
    if model is None:
        raise ConfigError("the trainer gave its callback no model", "use a trainer of transformers or TRL")
    return (p for p in model.parameters() if p.requires_grad)


def _cosine(name: str, a: list[Tensor], b: list[Tensor]) -> dict[str, float]:
    """Return the cosine under its name, nothing where a vector is 0."""
    lengths = math.sqrt(_dot(a, a) * _dot(b, b))
    return {name: _dot(a, b) / lengths} if lengths > 0 else {}


def _dot(a: list[Tensor], b: list[Tensor]) -> float:
    """Inner product in float64."""
    return math.fsum(
        float(torch.dot(x.double(), y.double()))
        for left, right in zip(a, b, strict=True)
        for x, y in zip(torch.split(left.flatten(), _BLOCK), torch.split(right.flatten(), _BLOCK), strict=True)
    )
