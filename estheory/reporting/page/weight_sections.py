"""Sections of a page about runs on the weights: how far they went, tensor by tensor, and in which direction."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from estheory._special import Array
from estheory.laws import ChiLaw, SquaredLaw
from estheory.quantities import Quantity, Verdict
from estheory.reporting.page import figures, row_figures
from estheory.reporting.page.page import Section
from estheory.reporting.text.tables import short
from estheory.reporting.text.verdicts import TENSOR_LEVEL
from estheory.runs.view import OwnRun, known
from estheory.tensor_names import layer_of, module_of
from estheory.theory.effective_dimension import shared_seed_dimension
from estheory.validation.assumptions import SHARED
from estheory.validation.recorded_walk import RecordedWalk


def norm_series(name: str, run: OwnRun) -> figures.Series:
    """Return the logged norms of a run over its steps.

    Result: in weight units; an ES run of independent float32 coordinates has its 95 % band.
    """
    steps = [row.step for row in run.steps]
    band = None
    if run.method == "es" and run.config.dtype == "float32" and (walk := RecordedWalk.of(run)).plain:
        mean = np.sqrt(np.array([walk.variance(step) for step in steps]) * run.dim)
        spread = 1.96 / math.sqrt(2 * run.dim)  # relative standard deviation of a chi norm
        band = figures.Band(low=mean * (1 - spread), mean=mean, high=mean * (1 + spread))
    return figures.Series(
        label=name, values=[known(row.norm, "norm") for row in run.steps], steps=steps, predicted=band
    )


def judged_norm_series(name: str, verdicts: Sequence[Verdict]) -> figures.Series | None:
    """Return the judged norms of a run over its steps.

    Result: in weight units, each with its predicted 95 % interval and systematic band; None without any.
    """
    kinds = (Quantity.DISPLACEMENT_NORM, Quantity.GRPO_DISPLACEMENT_NORM)
    rows = {v.measurement.step: v for v in verdicts if v.prediction.quantity in kinds and v.measurement.step}
    steps = sorted(step for step in rows if step is not None)
    if not steps:
        return None
    laws = [rows[step].prediction.law for step in steps]
    slack = [rows[step].prediction.systematic for step in steps]
    low = [law.interval(0.95)[0] - s * law.mean for law, s in zip(laws, slack, strict=True)]
    high = [law.interval(0.95)[1] + s * law.mean for law, s in zip(laws, slack, strict=True)]
    band = figures.Band(low=low, mean=[law.mean for law in laws], high=high)
    return figures.Series(
        label=name, values=[rows[step].measurement.value for step in steps], steps=steps, predicted=band
    )


def distance_section(series: Sequence[figures.Series], sentence: str) -> Section:
    """Show displacement norms over steps with their predicted bands."""
    return Section(title="Distance", sentence=sentence, figure_svg=figures.norm_path(series))


def tensor_section(title: str, verdicts: Sequence[Verdict], sentence: str) -> Section:
    """Show the judged effective-dimension ratios of single tensors with their 99 % intervals.

    `verdicts`: those that are not a tensor's are left out.
    """
    tensors = [v for v in verdicts if v.measurement.where.startswith("tensor:")]
    intervals = [v.prediction.law.interval(1 - TENSOR_LEVEL) for v in tensors]
    figure = row_figures.tensor_ratios(
        [v.measurement.where.split(":", 2)[2] for v in tensors],
        [v.measurement.value for v in tensors],
        [low for low, _ in intervals],
        [high for _, high in intervals],
    )
    return Section(title=title, sentence=sentence, figure_svg=figure)


def layer_section(title: str, verdicts: Sequence[Verdict]) -> Section:
    """Show effective-dimension ratios by layer, pooled from the judged tensors, with their 99 % intervals.

    `verdicts`: those that are not a tensor's are left out.
    """
    layers: dict[str, list[Verdict]] = {}
    for v in verdicts:
        if v.measurement.where.startswith("tensor:"):
            name = v.measurement.where.split(":", 2)[2]
            layer = layer_of(name)
            layers.setdefault(module_of(name) if layer is None else f"layer {layer}", []).append(v)
    layers = {name: layers[name] for name in sorted(layers, key=_layer_order)}
    ratios, low, high = [], [], []
    for members in layers.values():
        sizes = [round(1 / v.prediction.law.std**2 * 2) for v in members]
        shared = any(SHARED in v.prediction.assumptions for v in members)
        df = shared_seed_dimension([(n,) for n in sizes]) if shared else float(sum(sizes))
        law = SquaredLaw(ChiLaw(1 / math.sqrt(df), df))
        ratios.append(sum(n * v.measurement.value for n, v in zip(sizes, members, strict=True)) / sum(sizes))
        bounds, band = law.interval(1 - TENSOR_LEVEL), members[0].prediction.systematic
        low.append(bounds[0] - band)
        high.append(bounds[1] + band)
    outside = sum(not a <= r <= b for r, a, b in zip(ratios, low, high, strict=True))
    return Section(
        title=title,
        sentence=f"N‖Δ‖²/(α²Tn) pooled by layer: {outside} of {len(ratios)} lie outside their own 99 % interval.",
        figure_svg=row_figures.tensor_ratios(list(layers), ratios, low, high),
    )


def _layer_order(name: str) -> float:
    """Return the number of a layer; embeddings come before all of them, anything else after."""
    number = name.removeprefix("layer ")
    return int(number) if number.isdigit() else -1.0 if "embed" in name else math.inf


def cosine_sentence(cosines: Mapping[str, float], dim: int) -> str:
    """Return how many cosines lie among those of unrelated directions, and which is the largest.

    `dim`: number of trained parameters: unrelated directions have cosines of standard deviation 1/sqrt(dim).
    """
    bound = 2 / math.sqrt(dim)
    inside = sum(abs(value) <= bound for value in cosines.values())
    top = max(cosines, key=lambda pair: abs(cosines[pair]))
    pair = top.replace("|", " and ")
    if len(cosines) == 1:
        return (
            f"The cosine between the last checkpoints of {pair} is {short(cosines[top], 3)}, "
            f"{'inside' if inside else 'outside'} ±{bound:.2g}, where 95 % of those of unrelated directions lie."
        )
    return (
        f"{inside} of {len(cosines)} cosines between the runs' last checkpoints lie within ±{bound:.2g}, as 95 % of "
        f"those of unrelated directions do; the largest is {short(cosines[top], 3)} ({pair})."
    )


def pair_cosines(labels: Sequence[str], cosines: Array) -> dict[str, float]:
    """Return the cosine of each pair of displacements by ``a|b``, without those that did not move.

    `cosines`: shape (K, K), their cosines; NaN beside one that did not move.
    """
    pairs = {f"{a}|{b}": float(cosines[i, i + j]) for i, a in enumerate(labels) for j, b in enumerate(labels[i:]) if j}
    return {pair: cosine for pair, cosine in pairs.items() if math.isfinite(cosine)}


def cosine_section(cosines: Mapping[str, float], dim: int, sentence: str) -> Section:
    """Show cosines between the end points of runs against those of unrelated directions.

    `dim`: number of trained parameters: unrelated directions have cosines of standard deviation 1/sqrt(dim).
    """
    figure = row_figures.cosines(list(cosines), list(cosines.values()), 1 / math.sqrt(dim))
    return Section(title="Directions", sentence=sentence, figure_svg=figure)
