"""Sections of a page about runs on what the model does: rewards, accuracy and KL."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from estheory.line_scores import Interpolation
from estheory.quantities import Quantity, Verdict
from estheory.reporting.page import figures, probe_figures
from estheory.reporting.page.page import Section, Table
from estheory.reporting.text.tables import short
from estheory.runs.view import OwnRun, known

Runs = Mapping[str, OwnRun]
"""Records of runs by the name that the page gives them."""

MOST_COLUMNS = 6
"""More evaluated checkpoints than this, and the KL matrix has the last of each run alone."""


def accuracy_rows(runs: Runs) -> list[dict[str, Any]]:
    """Return what each run did to the accuracy on each task.

    Result: one per run and task: ``run``, ``task``, ``before`` and ``after`` with ``before_stderr`` and
    ``after_stderr`` (in [0, 1]), and ``kl_drift``, from the base (nat per token), NaN where it was not measured.
    """
    rows = []
    for name, run in runs.items():
        accuracy, kl = run.evaluated(Quantity.ACCURACY), run.evaluated(Quantity.KL_DRIFT)
        last = max((step for step, _ in accuracy), default=0)
        for task in sorted({task for step, task in accuracy if step == last and (0, task) in accuracy}):
            (before, before_error), (after, after_error) = accuracy[0, task], accuracy[last, task]
            rows.append(
                {
                    "run": name,
                    "task": task,
                    "before": before,
                    "before_stderr": before_error,
                    "after": after,
                    "after_stderr": after_error,
                    "kl_drift": kl.get((last, task), (math.nan, 0.0))[0],
                }
            )
    return rows


def accuracy_section(runs: Runs, sentence: str) -> Section:
    """Show accuracies before and after each run, as bars and as a table."""
    rows = accuracy_rows(runs)
    tasks = sorted({row["task"] for row in rows})
    nothing = {"before": math.nan, "before_stderr": math.nan, "after": math.nan, "after_stderr": math.nan}
    by = {(row["run"], row["task"]): row for row in rows}
    first = {row["task"]: row for row in reversed(rows)}

    def bars(label: str, when: str, of: Mapping[str, dict[str, Any]]) -> figures.Series:
        found = [of.get(task, nothing) for task in tasks]
        return figures.Series(
            label=label, values=[row[when] for row in found], stderrs=[row[f"{when}_stderr"] for row in found]
        )

    after = [
        bars(f"after {name}", "after", {task: by[name, task] for task in tasks if (name, task) in by}) for name in runs
    ]
    table = Table(
        header=("run", "task", ">before", ">after", ">KL from base (nat/token)"),
        rows=tuple(
            (
                row["run"],
                row["task"],
                f"{row['before']:.3f}",
                f"{row['after']:.3f} ± {row['after_stderr']:.3f}",
                short(row["kl_drift"], 3),
            )
            for row in rows
        ),
    )
    figure = figures.accuracy_bars(tasks, [bars("before", "before", first), *after])
    return Section(title="Accuracy", sentence=sentence, figure_svg=figure, table=table)


def reward_sections(runs: Runs) -> list[Section]:
    """Show the mean reward over steps.

    Result: one a kind of reward; runs of one step, which have no path, are left out.
    """
    kinds: dict[str, dict[str, OwnRun]] = {}
    for name, run in runs.items():
        if len(run.steps) > 1:
            kinds.setdefault((run.es.reward if run.method == "es" else "accuracy"), {})[name] = run
    return [_reward_section(kind, members, len(kinds) > 1) for kind, members in kinds.items()]


def _reward_section(kind: str, runs: Runs, several: bool) -> Section:
    paths, words = [], []
    for name, run in runs.items():
        rewards = [known(row.reward_mean, "mean reward") for row in run.steps]
        paths.append(figures.Series(label=name, values=rewards, steps=[row.step for row in run.steps]))
        tenth = max(1, len(rewards) // 10)
        words.append(
            f"{name} {short(float(np.mean(rewards[:tenth])), 3)} → {short(float(np.mean(rewards[-tenth:])), 3)}"
        )
    return Section(
        title="Reward over steps" + (f": {kind}" if several else ""),
        sentence=f"Mean reward of members (ES) or samples (GRPO), first to last tenth of steps: {'; '.join(words)}.",
        figure_svg=figures.reward_path(paths),
    )


def accuracy_sentence(runs: Runs) -> str:
    """Return what each run did to the accuracy on the task it was trained on."""
    words = [
        f"{row['run']} {row['before']:.3f} → {row['after']:.3f} ± {row['after_stderr']:.3f} on {row['task']}"
        for row in accuracy_rows(runs)
        if row["task"] == runs[row["run"]].config.task
    ]
    return (
        f"Accuracy on held-out prompts of the trained task: {'; '.join(words)}."
        if words
        else ("Accuracy on held-out prompts before and after each run.")
    )


def interpolation_section(line: Interpolation, *, start: str = "ES", end: str = "GRPO") -> Section:
    """Show the accuracy on the line between two solutions against the chord."""
    rise, error = line.middle_rise
    return Section(
        title="Between the solutions",
        sentence=(
            f"Accuracy on the straight line from the {start} to the {end} solution is at least {line.means.min():.3f}, "
            f"and half-way it differs by {f'{rise:+.3f}'.replace('-', '−')} ± {error:.3f} from the mean of both ends."
        ),
        figure_svg=figures.interpolation(line, start=start, end=end),
    )


def kl_section(verdicts: Sequence[Verdict]) -> Section:
    """Show KL predicted by the probes before the run beside KL measured after it.

    `verdicts`: at least one on KL; those on other quantities are left out.
    """
    kl = [v for v in verdicts if v.prediction.quantity is Quantity.KL_DRIFT]
    return Section(
        title="Drift of behaviour",
        sentence=(
            f"KL from the base after the last step, over what forward-only probes predicted before step 1: "
            f"{short(min(v.ratio for v in kl), 3)} to {short(max(v.ratio for v in kl), 3)}; "
            f"{sum(v.kind == 'refuted' for v in kl)} of {len(kl)} are refuted."
        ),
        table=Table(
            header=("where", ">predicted", ">measured", ">ratio", "verdict"),
            rows=tuple(
                (
                    f"{v.measurement.source}: {v.measurement.where}",
                    f"{short(v.prediction.law.mean, 3)} ± {short(v.prediction.law.std, 2)}",
                    short(v.measurement.value, 3),
                    short(v.ratio, 3),
                    v.kind,
                )
                for v in kl
            ),
        ),
    )


def kl_matrix_section(runs: Runs) -> Section | None:
    """Show measured KL from the base, tasks by runs and checkpoints.

    Result: None if nothing was evaluated. With more columns than :data:`MOST_COLUMNS`, of each run the last checkpoint.
    """
    cells = {
        (task, name, step): value
        for name, run in runs.items()
        for (step, task), (value, _) in run.evaluated(Quantity.KL_DRIFT).items()
        if step
    }
    places = sorted({(name, step) for _, name, step in cells}, key=lambda p: (list(runs).index(p[0]), p[1]))
    if len(places) > MOST_COLUMNS:
        places = list(dict(places).items())
    tasks = sorted({task for task, _, _ in cells})
    if not tasks:
        return None
    values = [[cells.get((task, *place), math.nan) for place in places] for task in tasks]
    heads = [f"{name}\nstep {step}" for name, step in places]
    top = max(cells, key=lambda cell: cells[cell])
    return Section(
        title="KL by task and run",
        sentence=(
            f"KL from the base on held-out prompts is largest on {top[0]} after {top[1]}, "
            f"{short(cells[top], 3)} nat a token."
        ),
        figure_svg=probe_figures.kl_matrix(tasks, heads, values),
    )
