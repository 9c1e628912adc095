"""What follows a run as it proceeds: a progress bar on stderr, when it is a terminal, and a tracker."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from estheory.cli.emit import warn
from estheory.cli.options import CommonOptions
from estheory.watching import watched


@contextmanager
def counted(common: CommonOptions, what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Yield a function that counts parts done on a bar with the time left; nothing when quiet or no terminal."""
    if not common.shows_progress:
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with watched(None), Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, advance=done)


@contextmanager
def watch_run(common: CommonOptions, out: Path, tracker: str | None) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Draw a run's rows as they come, and hand them to the tracker."""
    with step_progress(common, out) as show, ExitStack() as opened:
        if tracker is None:
            yield show
            return
        from estheory.training.trackers import tracked

        copy = opened.enter_context(tracked(tracker, out, lambda text: warn(common, [text])))

        def on_step(row: Mapping[str, Any]) -> None:
            show(row)
            copy(row)

        yield on_step


@contextmanager
def step_progress(common: CommonOptions, out: Path) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Draw reward, norm and time left; nothing when quiet, or when stderr is no terminal."""
    if not common.shows_progress:
        yield lambda row: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[shown]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar, ExitStack() as before:
        task = bar.add_task(out.name, total=None, shown="", visible=False)
        probing = bar.add_task("probing", total=None, shown="before step 1")
        view: list[RunView] = []
        before.enter_context(
            watched(lambda what, done, total: bar.update(probing, description=what, completed=done, total=total))
        )

        def on_step(row: Mapping[str, Any]) -> None:
            if not view:
                view.append(RunView(out))
                bar.remove_task(probing)
                before.close()
            shown = "reward {reward}  norm {norm}  KL {drift}".format(**view[0].fields(row))
            if line := view[0].outlook(row["step"]):
                bar.console.print(line, highlight=False)
            bar.update(task, total=view[0].steps, completed=row["step"], shown=shown, visible=True)

        yield on_step


class RunView:
    """What the live view shows of a run: its figures against their predictions.

    `out`: its run directory.
    """

    def __init__(self, out: Path) -> None:
        from estheory.runs.config import ESRunConfig
        from estheory.runs.directory import RunDirectory

        self._run = RunDirectory.open(out)
        self.steps = self._run.config.steps
        environment = self._run.read_json("environment.json") or {}
        config = self._run.config
        self._rules = config.rules(int(environment["model"]["dim"])) if isinstance(config, ESRunConfig) else None

    def fields(self, row: Mapping[str, Any]) -> dict[str, str]:
        """Return what the live view shows beside the bar.

        Result: ``reward``; ``norm``, over its predicted mean where there is one; ``drift``, the last measured KL (nat
        per token).
        """
        norm, predicted = f"{row['norm']:.4g}", self.predicted_norm(row["step"])
        drifts = [entry for entry in self._run.rows("evaluations") if entry["quantity"] == "kl_drift"]
        return {
            "reward": f"{row['reward_mean']:.3f}",
            "norm": norm if predicted is None else f"{norm} ({row['norm'] / predicted:.4f} of prediction)",
            "drift": f"{drifts[-1]['value']:.3g} ({drifts[-1]['task']})" if drifts else "-",
        }

    def outlook(self, step: int) -> str:
        """Return what the forecast after a step says of the run, in one line; empty if none was due."""
        from estheory.reporting.text.ledger import pace_text
        from estheory.theory.economy.forecast import Pace

        for row in self._run.rows("forecasts"):
            if row["step"] == step:
                pace = row["pace"]
                known = {name: math.nan if pace[name] is None else pace[name] for name in ("earned", "paid")}
                return f"step {step}: {pace_text(Pace(**known, floor_in=pace['floor_in'], bound=pace['bound']))}"
        return ""

    def predicted_norm(self, step: int) -> float | None:
        """Return the predicted mean norm.

        Result: in weight units, after `step`; None where the configuration alone does not tell it.
        """
        from estheory.errors import ConfigError
        from estheory.landscape import Signal
        from estheory.theory.walk import walk

        if self._rules is None or self._rules.dtype != "float32":
            return None
        try:
            return walk(self._rules, Signal(), step).norm_law.mean
        except ConfigError:
            return None
