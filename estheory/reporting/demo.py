"""The demo's result as text, as JSON and as one HTML page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from estheory.quantities import Quantity, Verdict
from estheory.reporting import figures, row_figures
from estheory.reporting.page import Section, Table, html_page
from estheory.reporting.text import plain_table, render, short
from estheory.reporting.verdicts import (
    TENSOR_LEVEL,
    is_quiet_tensor,
    summary,
    tensor_sentence,
    validation_json,
    verdicts_text,
)
from estheory.validation.runs import walk_variances

if TYPE_CHECKING:
    from estheory.demo import DemoResult

LEVEL = 0.05
NAMES = {"es": "ES", "grpo": "GRPO", "control": "ES, rewards permuted"}


def accuracy_table(result: DemoResult) -> list[dict[str, Any]]:
    """Return a row a run and task: accuracy before and after with standard errors, and KL from the base."""
    rows = []
    for name in NAMES:
        run = result.runs[name]
        accuracy, kl = run.evaluated(Quantity.ACCURACY), run.evaluated(Quantity.KL_DRIFT)
        last = len(run.steps)
        for task in sorted({task for _, task in accuracy}):
            (before, before_error), (after, after_error) = accuracy[0, task], accuracy[last, task]
            rows.append(
                {
                    "run": name,
                    "task": task,
                    "before": before,
                    "before_stderr": before_error,
                    "after": after,
                    "after_stderr": after_error,
                    "kl_drift": kl[last, task][0],
                }
            )
    return rows


def demo_json(result: DemoResult, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Return everything the demo found as one JSON document."""
    ends = result.displacements
    rise, rise_error = result.interpolation.middle_rise
    return {
        "schema": "estheory/demo/1",
        "seconds": result.seconds,
        "accuracy": accuracy_table(result),
        "displacement_norm": dict(zip(ends.labels, map(float, ends.norms), strict=True)),
        "norm_ratio": _norm_ratio(result),
        "cosines": _cosines(result),
        "unrelated_cosine_std": 1 / math.sqrt(_dim(result)),
        "interpolation": {
            "u": result.interpolation.fractions.tolist(),
            "accuracy": result.interpolation.means.tolist(),
            "stderr": result.interpolation.stderrs.tolist(),
            "middle_rise": rise,
            "middle_rise_stderr": rise_error,
        },
        "validation": validation_json(verdicts, verdicts, LEVEL),
    }


def demo_text(result: DemoResult, verdicts: Sequence[Verdict], page: Path) -> str:
    """Return the demo's tables, and what they mean in plain words."""
    table = plain_table("run", "task", ">before", ">after", ">KL from base", ">norm")
    norms = dict(zip(result.displacements.labels, result.displacements.norms, strict=True))
    for row in accuracy_table(result):
        table.add_row(
            NAMES[row["run"]],
            row["task"],
            f"{row['before']:.3f}",
            f"{row['after']:.3f} ± {row['after_stderr']:.3f}",
            short(row["kl_drift"], 3),
            f"{norms[row['run']]:.3f}",
        )
    return render(table, verdicts_text(verdicts, verdicts, LEVEL).rstrip(), *_sentences(result), f"Page: {page}")


def _sentences(result: DemoResult) -> list[str]:
    cosines, floor = _cosines(result), 1 / math.sqrt(_dim(result))
    rise, error = result.interpolation.middle_rise
    return [
        f"ES moved {_norm_ratio(result):.1f} times as far as GRPO.",
        f"Their cosine is {cosines['es|grpo']:.3f}; unrelated directions would have {floor:.4f}; "
        f"the control's is {cosines['control|grpo']:.4f}.",
        f"Half-way between the ES and the GRPO solution the accuracy is {rise:+.3f} ± {error:.3f} off the chord: "
        + ("no barrier." if rise > -2 * error else "a barrier."),
        f"This took {result.seconds:.0f} s (finished runs of an earlier demo are taken as they are).",
    ]


def demo_page(result: DemoResult, verdicts: Sequence[Verdict]) -> str:
    """Return the demo as one self-contained HTML page."""
    rows = accuracy_table(result)
    tasks = sorted({row["task"] for row in rows})
    by = {(row["run"], row["task"]): row for row in rows}
    line = result.interpolation
    steps, rewards = _reward_paths(result)
    cosines = _cosines(result)
    shown = [v for v in verdicts if not is_quiet_tensor(v)]
    counts = ", ".join(f"{n} {kind}" for kind, n in summary(verdicts).items())
    kl = [v for v in verdicts if v.prediction.quantity is Quantity.KL_DRIFT]
    bars = [
        figures.Series(
            label="before",
            values=[by["es", task]["before"] for task in tasks],
            stderrs=[by["es", task]["before_stderr"] for task in tasks],
        ),
        *(
            figures.Series(
                label=f"after {NAMES[name]}",
                values=[by[name, task]["after"] for task in tasks],
                stderrs=[by[name, task]["after_stderr"] for task in tasks],
            )
            for name in NAMES
        ),
    ]
    sections = [
        Section(
            title="Accuracy",
            sentence="ES and GRPO learn the trained task; with permuted rewards ES walks as far and learns nothing.",
            figure_svg=figures.accuracy_bars(tasks, bars),
            table=Table(
                header=("run", "task", ">before", ">after", ">KL from base (nat/token)"),
                rows=tuple(
                    (
                        NAMES[row["run"]],
                        row["task"],
                        f"{row['before']:.3f}",
                        f"{row['after']:.3f} ± {row['after_stderr']:.3f}",
                        short(row["kl_drift"], 3),
                    )
                    for row in rows
                ),
            ),
        ),
        Section(
            title="Distance",
            sentence="Both ES runs follow the random-walk law that was fixed before them; GRPO stays close.",
            figure_svg=figures.norm_path(_norm_paths(result)),
        ),
        Section(
            title="Tensor by tensor",
            sentence=tensor_sentence(verdicts),
            figure_svg=_tensor_figure(verdicts, "es"),
        ),
        Section(
            title="Reward over steps",
            sentence="The mean reward of the members (ES) or samples (GRPO) of each step.",
            figure_svg=figures.reward_path(
                [figures.Series(label=NAMES[n], values=rewards[n], steps=steps[n]) for n in NAMES]
            ),
        ),
        Section(
            title="Directions",
            sentence="ES shares a small, real part of its direction with GRPO; the control shares none.",
            figure_svg=row_figures.cosines(list(cosines), list(cosines.values()), 1 / math.sqrt(_dim(result))),
        ),
        Section(
            title="Between the solutions",
            sentence="Accuracy on the straight line from the ES to the GRPO solution, against the chord.",
            figure_svg=figures.interpolation(line.fractions, line.means, line.stderrs, line.chord),
        ),
        Section(
            title="Drift of behaviour",
            sentence="KL from the base: predicted by forward-only probes before step 1, measured after the last.",
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
        ),
    ]
    return html_page(
        title="estheory demo: ES and GRPO on tiny-lm",
        summary=f"{counts}. " + " ".join(_sentences(result)),
        verdicts=shown,
        plain=shown,
        level=LEVEL,
        sections=sections,
    )


def _tensor_figure(verdicts: Sequence[Verdict], run: str) -> str:
    """Draw one run's effective-dimension ratios with their 99 % intervals."""
    prefix = f"tensor:{run}:"
    tensors = [v for v in verdicts if v.measurement.where.startswith(prefix)]
    intervals = [v.prediction.law.interval(1 - TENSOR_LEVEL) for v in tensors]
    return row_figures.tensor_ratios(
        [v.measurement.where.removeprefix(prefix) for v in tensors],
        [v.measurement.value for v in tensors],
        [low for low, _ in intervals],
        [high for _, high in intervals],
    )


def _norm_paths(result: DemoResult) -> list[figures.Series]:
    paths = []
    for name in NAMES:
        run = result.runs[name]
        steps = [row["step"] for row in run.steps]
        band = None
        if run.method == "es":
            variances = walk_variances(run)
            mean = np.sqrt(np.array([variances[s] for s in steps]) * run.dim)
            spread = 1.96 / math.sqrt(2 * run.dim)  # relative standard deviation of a chi norm
            band = figures.Band(low=mean * (1 - spread), mean=mean, high=mean * (1 + spread))
        norms = [row["norm"] for row in run.steps]
        paths.append(figures.Series(label=NAMES[name], values=norms, steps=steps, predicted=band))
    return paths


def _reward_paths(result: DemoResult) -> tuple[dict[str, list[int]], dict[str, list[float]]]:
    steps = {name: [row["step"] for row in result.runs[name].steps] for name in NAMES}
    return steps, {name: [row["reward_mean"] for row in result.runs[name].steps] for name in NAMES}


def _cosines(result: DemoResult) -> dict[str, float]:
    ends = result.displacements
    index = {label: k for k, label in enumerate(ends.labels)}
    pairs = (("es", "grpo"), ("control", "grpo"), ("control", "es"))
    return {f"{a}|{b}": float(ends.cosines[index[a], index[b]]) for a, b in pairs}


def _norm_ratio(result: DemoResult) -> float:
    norms = dict(zip(result.displacements.labels, result.displacements.norms, strict=True))
    return float(norms["es"] / norms["grpo"])


def _dim(result: DemoResult) -> int:
    return sum(result.displacements.tensors.values())
