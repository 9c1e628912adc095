"""Sections of a page about a sequence: what was learned and forgotten, drift, norms by stage, directions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from estheory._special import Array
from estheory.quantities import Quantity, Verdict
from estheory.reporting.page import figures, probe_figures, weight_sections
from estheory.reporting.page.page import Section
from estheory.reporting.text.tables import short
from estheory.runs.sequence import SequenceRecord
from estheory.runs.view import OwnRun
from estheory.theory.adamw import learning_rates, walk_factor

METHODS = {"es": "ES", "grpo": "GRPO"}
NORMS = (Quantity.DISPLACEMENT_NORM, Quantity.STEP_NORM, Quantity.GRPO_DISPLACEMENT_NORM)


def sequence_sections(sequence: SequenceRecord, judged: Mapping[str, Sequence[Verdict]]) -> list[Section]:
    """Return the sections of one sequence."""
    found: list[Section | None] = []
    for method in sequence.methods:
        found.append(_matrix_section(sequence, method, "accuracy"))
    for method in sequence.methods:
        found.append(_matrix_section(sequence, method, "kl"))
    for method in sequence.methods:
        found.append(_norm_section(sequence, method, judged))
    for method in sequence.methods:
        verdicts = [v for stage in sequence.stages if stage.method == method for v in judged.get(stage.name, ())]
        if any(v.measurement.where.startswith("tensor:") for v in verdicts):
            found.append(
                weight_sections.layer_section(f"Layer by layer: all {METHODS.get(method, method)} stages", verdicts)
            )
    found.append(_cosine_section(sequence))
    return [section for section in found if section is not None]


def missing_section(lacks: Sequence[str]) -> Section | None:
    """Say which stages or runs are not there yet."""
    if not lacks:
        return None
    return Section(
        title="What is missing",
        sentence=f"{len(lacks)} {'part is' if len(lacks) == 1 else 'parts are'} not complete; the rest is shown below.",
        points=tuple(lacks),
    )


def _means(sequence: SequenceRecord, method: str, quantity: str) -> tuple[Array, Array, str]:
    """Return mean and standard deviation over seeds, shape (stages + 1, tasks), and over how many seeds."""
    values = np.stack([sequence.matrix(method, seed, quantity) for seed in sequence.seeds])
    known = np.isfinite(values).sum(axis=0)
    total = np.where(np.isfinite(values), values, 0.0).sum(axis=0)
    mean = np.where(known > 0, total / np.maximum(known, 1), np.nan)
    square = np.where(np.isfinite(values), (values - mean) ** 2, 0.0).sum(axis=0)
    spread = np.where(known > 1, np.sqrt(square / np.maximum(known - 1, 1)), np.nan)
    seeds = known[known > 0]
    most, least = int(seeds.max(initial=0)), int(seeds.min(initial=len(sequence.seeds)))
    over = f"mean of {most} seeds" if least == most else f"mean of {least} to {most} seeds"
    return mean, spread, over if most > 1 else "1 seed"


def _matrix_section(sequence: SequenceRecord, method: str, quantity: str) -> Section | None:
    mean, spread, over = _means(sequence, method, quantity)
    if not np.isfinite(mean).any():
        return None
    name, tasks = METHODS.get(method, method), sequence.tasks
    if quantity == "accuracy":
        title, figure = (
            f"Accuracy by stage: {name}",
            f"accuracy, {over}" + (", ± their spread" if np.isfinite(spread).any() else ""),
        )
        sentence = _learning_sentence(name, tasks, mean)
    else:
        title, figure = f"Drift by stage: {name}", f"KL(base || tuned), nat/token, {over}"
        at = np.flatnonzero(np.isfinite(mean).any(axis=1))[-1]
        last = mean[at]
        top = int(np.nanargmax(last))
        when = "the last" if at == len(tasks) else "its latest finished"
        sentence = (
            f"After {when} stage {name} has drifted from the base by "
            f"{short(float(np.nanmin(last)), 2)} to {short(float(last[top]), 2)} nat a token, farthest on {tasks[top]}."
        )
    return Section(
        title=title,
        sentence=sentence,
        figure_svg=probe_figures.matrix(
            *(tasks, ["base", *tasks], mean.T),
            spread.T if quantity == "accuracy" else None,
            title=figure,
            x_label="after the stage of",
            logarithmic=quantity == "kl",
        ),
    )


def _learning_sentence(name: str, tasks: Sequence[str], mean: Array) -> str:
    """Say what each stage did to its own task and which task lost most afterwards."""
    stages = [k for k in range(len(tasks)) if np.isfinite(mean[k + 1, k])]
    learned = ", ".join(f"{tasks[k]} {mean[k, k]:.2f} → {mean[k + 1, k]:.2f}" for k in stages)
    words = f"In its own stage {name} took {learned}" if learned else f"No stage of {name} is finished"
    last = max((k for k in range(len(tasks) + 1) if np.isfinite(mean[k]).any()), default=0)
    losses = {k: mean[k + 1, k] - mean[last, k] for k in stages if k + 1 < last}
    if losses:
        worst = max(losses, key=lambda k: losses[k])
        fall = f"{tasks[worst]} fell most afterwards, {mean[worst + 1, worst]:.2f} → {mean[last, worst]:.2f}"
        words += f"; {fall}" if losses[worst] >= 0.005 else "; no task fell afterwards"
    return words + "."


def _norm_section(sequence: SequenceRecord, method: str, judged: Mapping[str, Sequence[Verdict]]) -> Section | None:
    """Show the norm of every stage from its own start, stage after stage, with the predicted bands."""
    series = []
    for seed in sequence.seeds:
        parts = [stage.run for stage in sequence.of(method, seed) if stage.run is not None]
        if parts:
            series.append(_joined(f"seed {seed}", parts))
    if not series:
        return None
    names = {stage.name for stage in sequence.stages if stage.method == method}
    verdicts = [
        v
        for name in names
        for v in judged.get(name, ())
        if v.prediction.quantity in NORMS and not v.measurement.where.startswith("from the base")
    ]
    sentence = f"Distance of {METHODS.get(method, method)} from the start of each stage over the steps of all stages"
    if verdicts:
        ratios = [v.ratio for v in verdicts]
        refuted = sum(v.kind == "refuted" for v in verdicts)
        sentence += (
            f": measured over predicted is {min(ratios):.4g} to {max(ratios):.4g}, and {refuted} of {len(ratios)} "
            "judged norms are refuted"
        )
    return Section(
        title=f"Distance by stage: {METHODS.get(method, method)}",
        sentence=sentence + ".",
        figure_svg=figures.norm_path(series),
    )


def _joined(label: str, runs: Sequence[OwnRun]) -> figures.Series:
    """Return the norms of successive runs as one series over all their steps, broken between them."""
    columns: dict[str, list[float]] = {key: [] for key in ("steps", "values", "low", "mean", "high")}
    begun = 0
    for run in runs:
        series = weight_sections.norm_series("", run)
        band = series.predicted or _other_band(run)
        for key, values in zip(columns, (series.steps, series.values, band.low, band.mean, band.high), strict=True):
            columns[key] += [v + begun if key == "steps" else v for v in np.asarray(values, dtype=float).tolist()]
        begun += len(run.steps)
        if run is not runs[-1]:
            for key in columns:
                columns[key].append(begun + 0.5 if key == "steps" else math.nan)
    known = figures.Band(low=columns["low"], mean=columns["mean"], high=columns["high"])
    predicted = None if np.isnan(columns["mean"]).all() else known
    return figures.Series(label=label, values=columns["values"], steps=columns["steps"], predicted=predicted)


def _other_band(run: OwnRun) -> figures.Band:
    """Return what AdamW's walk on dense noise predicts of a GRPO run at each of its steps; NaN where no band is known.

    That is so of runs in 16 bits, and of ES runs whose norms have no band.
    """
    if run.method != "grpo" or run.config.dtype != "float32":
        unknown = [math.nan] * len(run.steps)
        return figures.Band(low=unknown, mean=unknown, high=unknown)
    rates = learning_rates(run.config.steps, run.grpo.schedule)[: len(run.steps)]
    squares = [walk_factor(rates[:t]) * float(rates[:t] @ rates[:t]) for t in range(1, len(rates) + 1)]
    mean = run.grpo.lr * np.sqrt(run.dim * np.array(squares))
    spread = 1.96 / math.sqrt(2 * run.dim)
    return figures.Band(low=mean * (1 - spread), mean=mean, high=mean * (1 + spread))


def _cosine_section(sequence: SequenceRecord) -> Section | None:
    if sequence.cosines is None or len(sequence.cosines[0]) < 2:
        return None
    names, values = sequence.cosines
    dims = [stage.run.dim for stage in sequence.stages if stage.run is not None]
    if not dims:
        return None
    floor = 1 / math.sqrt(dims[0])
    groups: dict[tuple[str, str], list[float]] = {}
    for i, a in enumerate(names):
        for j in range(i + 1, len(names)):
            kinds = sorted((a.split("/")[0], names[j].split("/")[0]))
            groups.setdefault((kinds[0], kinds[1]), []).append(float(values[i, j]))
    said = []
    for (a, b), found in groups.items():
        low, high = min(found), max(found)
        span = f"{low:.3f}" if len(found) == 1 else f"{low:.3f} to {high:.3f}"
        pair = f"two seeds of {METHODS.get(a, a)}" if a == b else f"{METHODS.get(a, a)} and {METHODS.get(b, b)}"
        said.append(f"{pair} {span.replace('-', '−')}")
    labels = [name.replace("/seed-", " ") for name in names]
    return Section(
        title="Directions at the end",
        sentence=(
            f"Cosines between the displacements from the base to the last models: {'; '.join(said)}. Unrelated "
            f"directions would have ±{2 * floor:.2g} in 95 % of cases."
        ),
        figure_svg=probe_figures.matrix(labels, labels, values, None, title="cosine", digits=3),
    )
