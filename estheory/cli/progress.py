"""A progress bar of training steps on stderr, when it is a terminal."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from estheory.cli.options import CommonOptions


@contextmanager
def step_progress(common: CommonOptions, out: Path) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Yield a function to call with each row of steps.jsonl; it draws reward, norm and time left."""
    if common.quiet or not sys.stderr.isatty():
        yield lambda row: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn(out.name),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("reward {task.fields[reward]}  norm {task.fields[norm]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("steps", total=None, reward="-", norm="-")

        def on_step(row: Mapping[str, Any]) -> None:
            total = tomllib.loads((out / "config.toml").read_text(encoding="utf-8"))["steps"]
            bar.update(
                task,
                total=total,
                completed=row["step"],
                reward=f"{row['reward_mean']:.3f}",
                norm=f"{row['norm']:.4g}",
            )

        yield on_step
