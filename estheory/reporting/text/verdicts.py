"""Verdicts as a table and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from estheory.quantities import NotJudged, Verdict
from estheory.reporting.text.tables import Table, render, short, short_names


def summary(verdicts: Sequence[Verdict]) -> dict[str, int]:
    """Return the number of verdicts of each kind."""
    counts = Counter(v.kind for v in verdicts)
    return {kind: counts[kind] for kind in ("consistent", "refuted", "underpowered")}


def verdict_json(verdict: Verdict, plain: Verdict) -> dict[str, Any]:
    """Return one verdict as a JSON object.

    Parameters
    ----------
    plain
        The same pair judged without its systematic band.
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
        "pvalue_without_systematic": plain.pvalue,
        "verdict_without_systematic": plain.kind,
        "source": p.source,
        "assumptions": list(p.assumptions),
    }


def validation_json(
    verdicts: Sequence[Verdict], plain: Sequence[Verdict], level: float, unpredicted: Sequence[NotJudged] = ()
) -> dict[str, Any]:
    """Return the JSON document of a validation.

    Parameters
    ----------
    plain
        The same pairs judged with every systematic band set to 0.
    unpredicted
        What was measured and not judged, with the reason.
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

    Parameters
    ----------
    verdicts
        Those that are not a tensor's are left out.
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


def verdicts_text(
    verdicts: Sequence[Verdict], plain: Sequence[Verdict], level: float, unpredicted: Sequence[NotJudged] = ()
) -> str:
    """Return the verdict table, the rows without prediction, and the tally in words.

    Parameters
    ----------
    plain
        The same pairs judged with every systematic band set to 0.
    unpredicted
        What was measured and not judged, with the reason.
    """
    banded = any(v.prediction.systematic for v in verdicts)
    sources = list(dict.fromkeys(v.measurement.source for v in verdicts if v.measurement.source))
    differs = any(v.kind != w.kind for v, w in zip(verdicts, plain, strict=True))
    columns = ["where", "quantity", ">step", ">predicted", ">measured", ">ratio", ">p", "verdict"]
    table = Table(*columns, *(("without band",) if differs else ()), gap=2)  # names of places should not be cut
    paths = sorted({path for v in verdicts for path in _paths(v.measurement.where)})
    names = dict(zip(paths, short_names(paths), strict=True))
    for v, w in zip(verdicts, plain, strict=True):
        p, m = v.prediction, v.measurement
        if is_quiet_tensor(v):
            continue
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
            short(v.ratio),
            short(v.pvalue, 2),
            v.kind,
            *((w.kind,) if differs else ()),
        )
    counts = ", ".join(f"{n} {kind}" for kind, n in summary(verdicts).items())
    sentence = tensor_sentence(verdicts)
    words = [f"[{number}] {source}" for number, source in enumerate(sources, start=1)]
    words.extend(f"{name}: {path}" for path, name in names.items())
    words.extend([sentence] if sentence else [])
    words.append(f"{counts} (family-wise level {level:g}).")
    if banded:
        without = ", ".join(f"{n} {kind}" for kind, n in summary(plain).items())
        words.append(
            "'+-' is a systematic uncertainty, not a random spread: the effect of 16-bit rounding when the weights or "
            "the order of updates are unknown, the error of the rounding emulator, or the truncation error of an "
            f"expansion. A measurement anywhere inside it counts as agreement. Without it: {without}."
        )
    if unpredicted:
        words.append("Not judged:")
        words.extend(
            f"  {u.where}: {u.quantity} at step {u.step}: {u.reason} (measured {short(u.value, 4)})"
            for u in unpredicted
        )
    return render(table, *words)
