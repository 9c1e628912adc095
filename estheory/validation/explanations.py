"""What would explain refuted norms and cosines, and what else is wrong with the run behind them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from estheory.diagnosis.faults import Explanation, Fault, explain_ratio, walk_faults
from estheory.errors import EstheoryError
from estheory.laws import ChiLaw
from estheory.quantities import Quantity, Verdict
from estheory.rules import ESConfig, UpdatePath
from estheory.simulation.emulator.checkpoint_weights import checkpoint_weights
from estheory.simulation.emulator.low_precision import rounding_of
from estheory.theory.rounding.float32_norm import float32_norm_share
from estheory.theory.signal import coherent_displacement_bound
from estheory.theory.walk import response
from estheory.validation.claims import Claims, Finding, listed

NORMS = (Quantity.DISPLACEMENT_NORM, Quantity.STEP_NORM, Quantity.GRPO_DISPLACEMENT_NORM)
"""What may have been measured too small."""
NEAR = 0.02
"""Relative distance within which the nearest fault is named where none fits within error."""
ROUNDING_ERROR = 0.0125
"""Relative error of the norm of a run whose rounding is emulated: a quarter of 5 %, which other rewards may change."""
UNSEEN = (
    "the sign of the update",
    "which coefficient multiplies which noise",
    "the size of sigma, where the rule's step does not contain it",
)
"""What leaves every norm of a walk on flat directions as it is."""


@dataclass(frozen=True, kw_only=True)
class Explained:
    """What may be behind one figure.

    Attributes
    ----------
    verdict
        The judged figure.
    ratio
        Measured over predicted, that of frozen tensors taken out.
    error
        Relative standard error of the ratio, a quarter of the systematic band included.
    candidates
        Faults that fit, the best first; none where none does.
    near
        Whether the candidates are only the nearest ones, off by more than the error.
    alpha
        The step size (weight) that would explain the norm; None for other quantities.
    steps
        The number of steps that would.
    anchor
        The L2 pull per step that would, of the form ``after``; None where no pull would.
    """

    verdict: Verdict
    ratio: float
    error: float
    candidates: tuple[Explanation, ...]
    near: bool = False
    alpha: float | None = None
    steps: float | None = None
    anchor: float | None = None


def explain(verdicts: Sequence[Verdict], claims: Claims) -> tuple[Explained, ...]:
    """Return what would explain each refuted norm and cosine of a run.

    Result: in the order of the verdicts; refuted ones alone.
    """
    found = []
    for verdict in verdicts:
        if verdict.kind != "refuted" or verdict.measurement.where.startswith("tensor:"):
            continue
        quantity = verdict.prediction.quantity
        if quantity in (Quantity.DISPLACEMENT_NORM, Quantity.STEP_NORM):
            found.append(_norm(verdict, claims))
        elif quantity is Quantity.CHECKPOINT_COSINE:
            found.append(_cosine(verdict, claims))
    return tuple(found)


def explain_published(verdicts: Sequence[Verdict]) -> tuple[Explained, ...]:
    """Return what would explain refuted norms of which nothing but a figure was published.

    Result: one a refuted norm that is low by no more than its own measuring can do.
    """
    found = []
    for verdict in verdicts:
        law, norm = verdict.prediction.law, verdict.prediction.quantity in NORMS
        if verdict.kind == "refuted" and norm and isinstance(law, ChiLaw):
            candidates = tuple(_of_measuring(verdict, law.df))
            if candidates:
                error = _error(verdict)
                found.append(Explained(verdict=verdict, ratio=verdict.ratio, error=error, candidates=candidates))
    return tuple(found)


def indistinguishable(verdicts: Sequence[Verdict], claims: Claims) -> tuple[str, ...]:
    """Return the faults that the norms which were not refuted cannot tell from a right run."""
    names: dict[str, None] = {}
    for verdict in verdicts:
        norm = verdict.prediction.quantity in (Quantity.DISPLACEMENT_NORM, Quantity.STEP_NORM)
        if verdict.kind == "refuted" or not norm or verdict.measurement.where.startswith("tensor:"):
            continue
        reach = 4 * _error(verdict)
        for fault in walk_faults(claims.rule, _steps(verdict), claims.signal):
            if abs(math.log(fault.factor)) <= reach:
                names[fault.name] = None
    return (*names, *UNSEEN)


def findings(claims: Claims) -> tuple[Finding, ...]:
    """Return what the displaced tensors show that no norm need show."""
    found = []
    if (frozen := claims.frozen) and claims.moved < claims.rule.dim:
        assert claims.measured is not None  # it tells which are frozen
        share = 1 - claims.moved / sum(claims.measured.tensors.values())
        what = f"{len(frozen)} of {len(claims.measured.tensors)} tensors did not move (entries unchanged: {share:.1%})"
        text = f"{what}: {listed(frozen)}. If they were not trained, say so (BASE CHECKPOINT with --trainable)"
        if claims.stored != "float32":
            text += f"; {claims.stored} may also have swallowed all that was added to them"
        found.append(Finding(kind="frozen tensors", text=text, tensors=frozen))
    for group in claims.alike if claims.rule.noise != "shared-seed" else ():
        text = (
            f"{len(group)} tensors of equal size moved the same way: {listed(group)}. They share their noise: one "
            "generator is re-seeded for each (--noise shared-seed says so), or one tensor is stored twice"
        )
        found.append(Finding(kind="shared noise", text=text, tensors=group))
    return tuple(found)


def _steps(verdict: Verdict) -> int:
    return 1 if verdict.prediction.quantity is Quantity.STEP_NORM else verdict.prediction.step or 1


def _error(verdict: Verdict) -> float:
    prediction = verdict.prediction
    mean = abs(prediction.law.mean) or 1.0
    return math.hypot(prediction.law.std, verdict.measurement.stderr) / mean + prediction.systematic / 4


def _norm(verdict: Verdict, claims: Claims) -> Explained:
    steps, error = _steps(verdict), _error(verdict)
    rule, ratio = claims.rule, verdict.ratio
    of_files, of_rule = tuple(_of_files(claims)), walk_faults(rule, steps, claims.signal)
    faults = (*of_files, *of_rule)
    rounded = [
        fit
        for fault, spread in _of_rounding(steps, claims)
        for fit in explain_ratio(ratio, max(error, spread), [fault])
    ]
    candidates = (*explain_ratio(ratio, error, faults), *rounded)
    moved = of_files[0].factor if claims.frozen and claims.moved < rule.dim else 1.0
    if not candidates and moved != 1.0:
        both = tuple(Fault(name=f"the frozen tensors, and {f.name}", factor=f.factor * moved) for f in of_rule)
        candidates = explain_ratio(ratio, error, both)
    candidates = (*candidates, *_of_signal(verdict, claims, steps, error))
    if claims.measured is None:  # somebody else's code measured it
        candidates = (*candidates, *_of_measuring(verdict, rule.dim))
    near = not candidates
    if near and abs(math.log(ratio or 1.0)) > NEAR:
        candidates = explain_ratio(ratio, max(error, NEAR / 4), faults)
    rest = ratio / moved
    return Explained(
        verdict=verdict,
        ratio=ratio,
        error=error,
        candidates=candidates,
        near=near and bool(candidates),
        alpha=rule.step_size * rest,
        steps=steps * rest**2,
        anchor=_pull(rule, steps, rest),
    )


def _of_signal(verdict: Verdict, claims: Claims, steps: int, error: float) -> Iterator[Explanation]:
    """Yield the rewards' own signal, of which a law on flat directions knows nothing, where it may reach so far."""
    mean, ratio = verdict.prediction.law.mean, verdict.ratio
    bound = coherent_displacement_bound(claims.rule, float(steps)) if claims.signal is None and mean > 0 else None
    if bound is None or abs(math.log(ratio or 1.0)) <= 4 * error:
        return
    reach = math.hypot(1.0, bound / mean)
    if 1 < ratio <= reach * math.exp(4 * error):
        name = f"the signal of the rewards adds up along their gradient (up to {reach:.4g} times)"
        yield Explanation(fault=Fault(name=name, factor=ratio), misfit=0.0)


def _of_measuring(verdict: Verdict, entries: float) -> Iterator[Explanation]:
    """Yield a norm that was added up in float32, where it may be low by as much: a bound, which fits nothing."""
    least, error = float32_norm_share(entries), _error(verdict) - verdict.prediction.systematic / 4
    if least * math.exp(-4 * error) <= verdict.ratio < math.exp(-4 * error):
        name = (
            f"its squares may have been added up in float32, which loses small ones (down to {least:.2g} of the norm "
            f"as one sum of {entries:.3g}; sums by tensor lose less)"
        )
        yield Explanation(fault=Fault(name=name, factor=verdict.ratio), misfit=0.0)


def _of_files(claims: Claims) -> Iterator[Fault]:
    """Yield what the files themselves say of the number of entries that walk."""
    if claims.measured is None:
        return
    sizes, dim = claims.measured.tensors, claims.rule.dim
    held = sum(sizes.values())
    if frozen := claims.frozen:
        moved = claims.moved
        if moved < dim:
            name = f"{len(frozen)} tensors did not move ({listed(frozen)}): frozen, not --trainable"
            yield Fault(name=name, factor=math.sqrt(moved / dim))
    if dim != held:
        twice = next((name for name, size in sizes.items() if size == dim - held), None)
        what = f"{twice} is counted twice" if twice else "entries are counted that the files do not hold"
        what = what if dim > held else "entries of the files are not counted"
        yield Fault(name=f"{what} (d = {dim}, the files hold {held})", factor=math.sqrt(held / dim))
    for group in claims.alike:
        size = sizes[group[0]]
        heads = [name for name in group if "embed" in name or "head" in name or "wte" in name]
        if len(heads) > 1 and held > size:
            name = f"a tied head is counted twice ({' and '.join(heads)})"
            yield Fault(name=name, factor=math.sqrt(held / (held - size)))


def _of_rounding(steps: int, claims: Claims) -> Iterator[tuple[Fault, float]]:
    """Yield what 16 bits do to a run that is not said to be in 16 bits, and the relative error of that factor."""
    if claims.rule.dtype != "float32" or claims.stored == "float32" or claims.base is None:
        return
    stored = claims.stored
    paths: tuple[UpdatePath, ...] = ("sequential", "accumulated")
    for path in paths:
        rounded = replace(claims.rule, dtype=stored, update_path=path, steps=steps)
        try:
            effects = rounding_of(rounded, checkpoint_weights(claims.base, stored), [steps]).effects
        except EstheoryError:
            return
        effect = (effects or {}).get(steps)
        if effect is not None and effect.variance > 0:
            name = (
                f"{stored} swallows {effect.swallowed:.0%} of the update "
                f"(--dtype {stored} --update-path {path} --weights BASE)"
            )
            noise = math.sqrt(effect.scatter / claims.rule.dim)
            spread = math.hypot(effect.spread, noise, effect.variance_stderr / effect.variance) / 2
            yield Fault(name=name, factor=math.sqrt(effect.variance)), math.hypot(spread, ROUNDING_ERROR)


def _pull(rule: ESConfig, steps: int, ratio: float) -> float | None:
    """Return the pull per step of an L2 anchor (``after``) that shortens a plain walk by a ratio."""
    if rule.anchor_l2 or rule.momentum or not 0 < ratio < 1 or steps < 2:
        return None
    low, high = 0.0, 0.999
    for _ in range(60):
        middle = (low + high) / 2
        h = response(replace(rule, anchor_l2=middle, anchor_form="after"), steps)
        assert h is not None  # there is an anchor
        low, high = (middle, high) if float(h @ h) / steps > ratio**2 else (low, middle)
    return low


def _cosine(verdict: Verdict, claims: Claims) -> Explained:
    """Return what would explain the cosine of two checkpoints."""
    measured, expected = verdict.measurement.value, verdict.prediction.law.mean
    error = _error(verdict)
    around = 6 / math.sqrt(claims.rule.dim)
    found = []
    if measured > 1 - max((1 - expected) / 100, 1e-9):
        found.append("both point the same way: every step uses the same noise, or one checkpoint is the other scaled")
    elif abs(measured) < around:
        found.append("they are unrelated: checkpoints of two runs, or noise that is taken back")
    elif measured > expected:
        found.append("both hold one displacement more: another base than theirs, or steps are counted too few")
    else:
        found.append("the later one has forgotten: an anchor or weight decay, or more steps lie between them")
    candidates = tuple(Explanation(fault=Fault(name=name, factor=measured / expected), misfit=0.0) for name in found)
    return Explained(verdict=verdict, ratio=verdict.ratio, error=error, candidates=candidates)


def pull_fits_better(explained: Sequence[Explained]) -> bool | None:
    """Return whether one pull, rather than one step size, explains norms at several steps; None where it is open."""
    pulls = [e.anchor for e in explained if e.anchor is not None and e.verdict.prediction.step]
    alphas = [e.alpha for e in explained if e.anchor is not None and e.alpha is not None]
    if len(pulls) < 2:
        return None
    spread = [float(np.ptp(np.log(np.maximum(values, 1e-12)))) for values in (pulls, alphas)]
    return None if min(spread) * 2 > max(spread) else spread[0] < spread[1]
