"""Verdicts as a table and as JSON."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from estheory.quantities import NotJudged, Verdict, VerdictKind
from estheory.reporting.text.tables import Sheet, Table, short, short_names


def summary(verdicts: Sequence[Verdict]) -> dict[str, int]:
    """Return the number of verdicts of each kind."""
    counts = Counter(v.kind for v in verdicts)
    return {kind: counts[kind] for kind in ("consistent", "refuted", "underpowered")}


def verdict_json(verdict: Verdict, plain: Verdict) -> dict[str, Any]:
    """Return one verdict as a JSON object.

    `plain`: the same pair judged without its systematic band.
    """
    p, m = verdict.prediction, verdict.measurement
    return {
        "quantity": str(p.quantity),
        "step": m.step,
        "where": m.where,
        "predicted": {"mean": p.law.mean, "std": p.law.std, "systematic": p.systematic, "label": p.label},
        "measured": m.value,
        "stderr": m.stderr,
        "ratio": verdict.ratio,
        "pvalue": verdict.pvalue,
        "verdict": verdict.kind,
        "power": verdict.power,
        "noticeable_error": verdict.noticeable_error,
        "pvalue_without_systematic": plain.pvalue,
        "verdict_without_systematic": plain.kind,
        "source": p.source,
        "assumptions": list(p.assumptions),
    }


def validation_json(
    verdicts: Sequence[Verdict], plain: Sequence[Verdict], level: float, unpredicted: Sequence[NotJudged] = ()
) -> dict[str, Any]:
    """Return the JSON document of a validation.

    `plain`: the same pairs judged with every systematic band set to 0.
    `unpredicted`: what was measured and not judged, with the reason.
    """
    return {
        "schema": "estheory/validation/1",
        "level": level,
        "verdicts": [verdict_json(v, w) for v, w in zip(verdicts, plain, strict=True)],
        "summary": summary(verdicts),
        "summary_without_systematic": summary(plain),
        "unpredicted": [
            {
                "quantity": u.quantity,
                "step": u.step,
                "where": u.where,
                "measured": u.value,
                "reason": u.reason,
            }
            for u in unpredicted
        ],
    }


TENSOR_LEVEL = 0.01
WEIGHT_FILES = (".safetensors", ".bin", ".pt", ".pth")


def is_quiet_tensor(verdict: Verdict) -> bool:
    """Return whether a verdict is one tensor's and not refuted: :func:`tensor_sentence` tells those together."""
    return verdict.measurement.where.startswith("tensor:") and verdict.kind != "refuted"


def tensor_sentence(verdicts: Sequence[Verdict]) -> str:
    """Return how the tensor-by-tensor ratios fared against chance.

    `verdicts`: those that are not a tensor's are left out.
    """
    tensors = [v for v in verdicts if v.measurement.where.startswith("tensor:")]
    if not tensors:
        return ""
    outside = sum(v.pvalue < TENSOR_LEVEL for v in tensors)
    kinds = ", ".join(f"{n} {kind}" for kind, n in summary(tensors).items() if n)
    return (
        f"Tensor by tensor: {outside} of {len(tensors)} effective-dimension ratios lie outside their own 99 % interval "
        f"({TENSOR_LEVEL * len(tensors):.1f} expected); {kinds}."
    )


def _paths(where: str) -> list[str]:
    """Return the files of weights that a place names."""
    return [part for part in where.removeprefix("total:").split("|") if part.endswith(WEIGHT_FILES)]


def says(verdict: Verdict) -> str:
    """Return a verdict in words: an underpowered one names the smallest error that would have been noticed."""
    error = verdict.noticeable_error
    if verdict.kind != "underpowered" or math.isnan(error):
        return verdict.kind
    if verdict.near_zero:
        return f"within {short(error, 2)}"
    return f"within {_percent(error / abs(verdict.prediction.law.mean))}"


def shown_ratio(verdict: Verdict) -> str:
    """Return measured over predicted; nothing where the prediction is next to 0."""
    return "" if verdict.near_zero else short(verdict.ratio)


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.995 else f"{100 * share:.0f} %"


def _summary_table(verdicts: Sequence[Verdict]) -> Table:
    """Return a row a quantity: how many verdicts, the ratio furthest from 1, and what they say."""
    table = Table("quantity", ">rows", ">worst ratio", "what they say", gap=2)
    for quantity in dict.fromkeys(v.prediction.quantity for v in verdicts):
        group = [v for v in verdicts if v.prediction.quantity is quantity]
        words = ", ".join(text for _, text in group_words(group))
        table.add_row(str(quantity), str(len(group)), worst_ratio(group), words)
    return table


def worst_ratio(group: Sequence[Verdict]) -> str:
    """Return the ratio furthest from 1; nothing where every prediction is next to 0."""
    worst = max((v for v in group if not v.near_zero), key=lambda v: abs(v.ratio - 1), default=None)
    return short(worst.ratio) if worst else ""


def group_words(group: Sequence[Verdict]) -> list[tuple[VerdictKind, str]]:
    """Return what the verdicts of one quantity say: the number of each kind, and of underpowered ones the best."""
    kinds = summary(group)
    told: tuple[VerdictKind, ...] = ("refuted", "consistent")
    words: list[tuple[VerdictKind, str]] = [(kind, f"{kinds[kind]} {kind}") for kind in told if kinds[kind]]
    if weak := [v for v in group if v.kind == "underpowered"]:
        relative = [v for v in weak if not v.near_zero]
        best = min(relative or weak, key=lambda v: v.noticeable_error / (abs(v.prediction.law.mean) if relative else 1))
        words.append(("underpowered", f"{len(weak)} {says(best)}" + " at best" * (len(weak) > 1)))
    return words


BAND = (
    "the effect of 16-bit rounding when the weights or the order of updates are unknown, the error of the rounding "
    "emulator, or the truncation error of an expansion"
)
FEW = 12
"""So many verdicts are shown one by one in any case."""
NAMED = 10
"""So many refuted ones are named below a summary."""


def verdicts_sheet(
    verdicts: Sequence[Verdict],
    plain: Sequence[Verdict],
    level: float,
    unpredicted: Sequence[NotJudged] = (),
    *,
    every: bool = False,
    shown_by: str = "--json",
    band: str = BAND,
) -> Sheet:
    """Return a summary by quantity, the verdicts one by one where they are few or asked for, and the tally in words.

    `plain`: the same pairs judged with every systematic band set to 0.
    `unpredicted`: what was measured and not judged, with the reason.
    `every`: whether to show each row, and each figure not judged, however many there are.
    `shown_by`: the option of the command that shows every row.
    `band`: what '+-' is, where a row has one.
    """
    loud = [(v, w) for v, w in zip(verdicts, plain, strict=True) if not is_quiet_tensor(v)]
    every = every or len(loud) <= FEW
    refuted = sorted((pair for pair in loud if pair[0].kind == "refuted"), key=lambda pair: pair[0].pvalue)
    shown = loud if every else refuted[:NAMED]
    parts: list[Table | str] = []
    if len(verdicts) > FEW:
        parts.append(_summary_table(verdicts))
    sources = list(dict.fromkeys(v.measurement.source for v, _ in shown if v.measurement.source))
    paths = sorted({path for v, _ in shown for path in _paths(v.measurement.where)})
    names = dict(zip(paths, short_names(paths), strict=True))
    if shown:
        parts.append(_rows(shown, sources, names, None if every else f"refuted ({len(shown)} of {len(refuted)})"))
    sentence = tensor_sentence(verdicts)
    words = [f"[{number}] {source}" for number, source in enumerate(sources, start=1)]
    words.extend(f"{name}: {path}" for path, name in names.items())
    words.extend([sentence] if sentence else [])
    counts = ", ".join(f"{n} {kind}" for kind, n in summary(verdicts).items())
    words.append(f"{counts} (family-wise level {level:g}).")
    if any(v.kind == "underpowered" for v in verdicts):
        words.append(
            "'within 50 %': not refuted; an error of 50 % would have been, a smaller one perhaps not (underpowered)."
        )
    if any(v.prediction.systematic for v, _ in shown) or any(v.kind != w.kind for v, w in loud):
        without = ", ".join(f"{n} {kind}" for kind, n in summary(plain).items())
        words.append(
            f"'+-' is a systematic uncertainty, not a random spread: {band}. A measurement anywhere inside it counts "
            f"as agreement. Without it: {without}."
        )
    if unpredicted and every:
        words.append("Not judged:")
        words.extend(
            f"  {u.where}: {u.quantity} at step {u.step}: {u.reason} (measured {short(u.value, 4)})"
            for u in unpredicted
        )
    elif unpredicted:
        words.append(f"{len(unpredicted)} measured figures were not judged.")
    if not every:
        words.append(f"{shown_by} shows all {len(verdicts)} rows.")
    return Sheet(*parts, *words)


def _rows(
    shown: Sequence[tuple[Verdict, Verdict]], sources: Sequence[str], names: Mapping[str, str], title: str | None
) -> Table:
    """Return verdicts one by one, each with that of the same pair without its band."""
    differs = any(v.kind != w.kind for v, w in shown)
    columns = ["where", "quantity", ">step", ">predicted", ">measured", ">ratio", ">p", "verdict"]
    table = Table(*columns, *(("without band",) if differs else ()), title=title, gap=2)
    for v, w in shown:
        p, m = v.prediction, v.measurement
        where = m.where.removeprefix(m.source + ", ")
        start = "total:" * where.startswith("total:")
        where = start + "|".join(names.get(part, part) for part in where.removeprefix(start).split("|"))
        spread = f" +-{100 * p.systematic:.2g}%" if p.systematic else ""
        table.add_row(
            f"{where}\N{NO-BREAK SPACE}[{sources.index(m.source) + 1}]" if m.source else where,
            str(p.quantity),
            str(m.step or ""),
            short(p.law.mean, 5) + spread,
            short(m.value, 5),
            shown_ratio(v),
            short(v.pvalue, 2),
            says(v),
            *((says(w),) if differs else ()),
        )
    return table
