"""What would explain refuted figures, in words and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from estheory.diagnosis.faults import length_sentence
from estheory.quantities import Quantity
from estheory.reporting.text.tables import Sheet
from estheory.validation.claims import Finding
from estheory.validation.explanations import Explained, pull_fits_better


def explanations_json(
    explained: Sequence[Explained], findings: Sequence[Finding], unseen: Sequence[str]
) -> dict[str, Any]:
    """Return the JSON keys that tell causes.

    `explained`: of refuted figures.
    `findings`: what is wrong whatever the verdicts say.
    `unseen`: faults that these data cannot tell from a right run.
    """
    rows = []
    for one in explained:
        p, m = one.verdict.prediction, one.verdict.measurement
        candidates = [
            {"name": c.fault.name, "factor": c.fault.factor, "misfit": c.misfit, "fits": not one.near}
            for c in one.candidates
        ]
        implied = {"alpha": one.alpha, "steps": one.steps, "anchor_l2": one.anchor}
        rows.append(
            {
                "quantity": str(p.quantity),
                "step": m.step,
                "where": m.where,
                "ratio": one.ratio,
                "relative_error": one.error,
                "candidates": candidates,
                "implied": implied,
                "text": _sentence(one),
            }
        )
    found = [{"kind": f.kind, "tensors": list(f.tensors), "steps": list(f.steps), "text": f.text} for f in findings]
    return {"explanations": rows, "findings": found, "cannot_be_told": list(unseen)}


def explanations_sheet(explained: Sequence[Explained], findings: Sequence[Finding], unseen: Sequence[str]) -> Sheet:
    """Return the lines below a table of verdicts; empty where there is nothing to tell.

    `explained`, `findings`, `unseen`: as for :func:`explanations_json`.
    """
    lines = [f"  {finding.text}." for finding in findings]
    lines += list(_told_once(explained))
    fits = pull_fits_better(explained)
    if fits is not None:
        lines.append(
            f"  The checkpoints agree on one {'pull (anchor or weight decay)' if fits else 'step size alpha'}."
        )
    if not lines:
        return Sheet()
    untold = [f"Cannot be told from these data: {'; '.join(unseen)}."] if unseen else []
    return Sheet("What would explain it:" if explained else "Found:", *lines, *untold)


def _told_once(explained: Sequence[Explained]) -> Iterator[str]:
    """Yield a line for the first figure of those that the same candidates explain."""
    alike: dict[tuple[str, ...], list[Explained]] = {}
    for one in explained:
        alike.setdefault(tuple(found.fault.name for found in one.candidates), []).append(one)
    for group in alike.values():
        first = group[0].verdict
        step = f" at step {first.prediction.step}" if len(group) > 1 and first.prediction.step else ""
        more = f" (and {len(group) - 1} more figures like it)" if len(group) > 1 else ""
        yield f"  {first.measurement.where}{step}{more}: {_sentence(group[0])}"


def _sentence(one: Explained) -> str:
    if one.verdict.prediction.quantity is Quantity.CHECKPOINT_COSINE:
        return "; ".join(found.fault.name for found in one.candidates) + "."
    text = length_sentence(one.ratio, one.candidates)
    if one.alpha is None:  # nothing but the figure is known
        return text + "."
    if one.candidates:
        best = one.candidates[0]
        fit = "near, but not within error: " if one.near else ""
        text += f" ({fit}factor {best.fault.factor:.4g}, {best.misfit:.2g} standard errors off)"
    text += f". Implied alpha: {one.alpha:.4g}"
    if one.steps is not None:
        text += f"; or {one.steps:.4g} steps" if one.steps >= 0.5 else ""
    return text + (f"; or an L2 pull of {one.anchor:.3g} per step." if one.anchor is not None else ".")
