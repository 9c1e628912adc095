"""The demo's result as text, as JSON and as one HTML page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from estheory.quantities import Quantity, Verdict
from estheory.reporting.page import behaviour_sections, weight_sections
from estheory.reporting.page.page import html_page
from estheory.reporting.text.tables import Sheet, Table, short
from estheory.reporting.text.verdicts import (
    summary,
    tensor_sentence,
    validation_json,
    verdicts_sheet,
)
from estheory.runs.view import OwnRun

if TYPE_CHECKING:
    from estheory.demo import DemoResult

LEVEL = 0.05
NAMES = {"es": "ES", "grpo": "GRPO", "control": "ES, rewards permuted"}


def demo_json(result: DemoResult, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Return everything the demo found as one JSON document."""
    ends = result.displacements
    rise, rise_error = result.interpolation.middle_rise
    return {
        "schema": "estheory/demo/1",
        "seconds": result.seconds,
        "accuracy": behaviour_sections.accuracy_rows(_runs(result)),
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


def demo_sheet(result: DemoResult, verdicts: Sequence[Verdict], page: Path) -> Sheet:
    """Return the demo's tables, and what they mean in plain words.

    `page`: where the page is; named at the end.
    """
    table = Table("run", "task", ">before", ">after", ">KL from base", ">norm")
    norms = dict(zip(result.displacements.labels, result.displacements.norms, strict=True))
    for row in behaviour_sections.accuracy_rows(_runs(result)):
        table.add_row(
            NAMES[row["run"]],
            row["task"],
            f"{row['before']:.3f}",
            f"{row['after']:.3f} ± {row['after_stderr']:.3f}",
            short(row["kl_drift"], 3),
            f"{norms[row['run']]:.3f}",
        )
    return Sheet(table) + verdicts_sheet(verdicts, verdicts, LEVEL) + Sheet(*_sentences(result), f"Page: {page}")


def _sentences(result: DemoResult) -> list[str]:
    cosines, floor = _cosines(result), 1 / math.sqrt(_dim(result))
    rise, error = result.interpolation.middle_rise
    return [
        f"ES moved {_norm_ratio(result):.1f} times as far as GRPO.",
        f"Their cosine is {cosines['es|grpo']:.3f}; two unrelated directions have about {floor:.4f}; "
        f"the control's is {cosines['control|grpo']:.4f}.",
        f"Half-way between the ES and the GRPO solution the accuracy differs by {rise:+.3f} ± {error:.3f} "
        "from the mean of both ends: " + ("no barrier." if rise > -2 * error else "a barrier."),
        f"This took {result.seconds:.0f} s (finished runs of an earlier demo are taken as they are).",
    ]


def demo_page(result: DemoResult, verdicts: Sequence[Verdict]) -> str:
    """Return the demo as one self-contained HTML page."""
    line = result.interpolation
    runs = {NAMES[name]: result.runs[name] for name in NAMES}
    counts = ", ".join(f"{n} {kind}" for kind, n in summary(verdicts).items())
    page_sections = [
        behaviour_sections.accuracy_section(runs, behaviour_sections.accuracy_sentence(runs)),
        weight_sections.distance_section(
            [weight_sections.norm_series(name, run) for name, run in runs.items()],
            _distance_sentence(result, verdicts),
        ),
        weight_sections.tensor_section(
            "Tensor by tensor",
            [v for v in verdicts if v.measurement.where.startswith("tensor:es:")],
            tensor_sentence(verdicts),
        ),
        *behaviour_sections.reward_sections(runs),
        weight_sections.cosine_section(
            _cosines(result), _dim(result), weight_sections.cosine_sentence(_cosines(result), _dim(result))
        ),
        behaviour_sections.interpolation_section(line),
        behaviour_sections.kl_section(verdicts),
    ]
    return html_page(
        title="estheory demo: ES and GRPO on tiny-lm",
        summary=f"{counts}. " + " ".join(_sentences(result)),
        verdicts=verdicts,
        plain=verdicts,
        level=LEVEL,
        sections=page_sections,
    )


def _distance_sentence(result: DemoResult, verdicts: Sequence[Verdict]) -> str:
    """Return how far each run went and how many norms of the walk are refuted."""
    norms = dict(zip(result.displacements.labels, result.displacements.norms, strict=True))
    walks = [v for v in verdicts if v.prediction.quantity is Quantity.DISPLACEMENT_NORM]
    refuted = sum(v.kind == "refuted" for v in walks)
    went = ", ".join(f"{name} {norms[key]:.3f}" for key, name in NAMES.items())
    return f"Distance from the base at the end: {went}; {refuted} of {len(walks)} norms of the random walk are refuted."


def _runs(result: DemoResult) -> dict[str, OwnRun]:
    return {name: result.runs[name] for name in NAMES}


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
