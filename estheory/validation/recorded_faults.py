"""What a run's records show of its coefficients and seeds, whatever its norms say."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import get_args

import numpy as np

from estheory._special import Array
from estheory.diagnosis.coefficients import TOLERANCE, CoefficientsExplained, explain_coefficients
from estheory.diagnosis.seeds import explain_seeds
from estheory.errors import EstheoryError
from estheory.rules import ESConfig, Shaping
from estheory.runs.view import Settings, Step
from estheory.theory.estimators import estimator_of
from estheory.validation.claims import Finding

LOOSEST = 0.1
"""Rewards and coefficients that were rounded to more than this share of their spread tell nothing of coefficients."""


def recorded_findings(steps: Sequence[Step], told: Settings) -> tuple[Finding, ...]:
    """Return what is wrong with the coefficients and seeds that a run logged.

    `steps`: its records.
    `told`: its hyper-parameters. Where the shaping is not told, coefficients of any known shaping are right.
    Result: empty where nothing known is wrong, or where sigma, alpha or the population is not told.
    """
    rules = _rules(told)
    if not rules:
        return ()
    return (*_of_coefficients(steps, rules), *_of_seeds(steps, rules[0]))


def _rules(told: Settings) -> list[ESConfig]:
    """Return what the run may claim to be: one rule, or one for each shaping where none is told."""
    shapings: Iterable[Shaping] = (told.shaping,) if told.shaping else get_args(Shaping)
    found = []
    for shaping in shapings:
        try:
            found.append(replace(told, shaping=shaping, dim=told.dim or 1).rules())
        except EstheoryError:  # incomplete, or no rule of this shaping
            continue
    return found


def _of_coefficients(steps: Sequence[Step], rules: Sequence[ESConfig]) -> list[Finding]:
    groups: dict[tuple[object, ...], list[tuple[int, str]]] = {}
    judged = 0
    for step in steps:
        if step.rewards is None or step.coefficients is None:
            continue
        found = [one for rule in rules if (one := _explained(step.rewards, step.coefficients, rule)) is not None]
        judged += bool(found)
        if found and not any(one.right for one in found):
            best = next((one for one in found if one.known), found[0])
            fault = None if best.fault is None else best.fault.name
            kind = (best.known, fault, best.ratio < 0, tuple(fit.fault.name for fit in best.scale))
            groups.setdefault(kind, []).append((step.step, best.text))
    return [
        Finding(
            kind="coefficients",
            text=f"coefficients beside their rewards, at {len(rows)} of {judged} steps: {rows[0][1]}",
            steps=tuple(number for number, _ in rows),
        )
        for rows in groups.values()
    ]


def _explained(rewards: Array, coefficients: Array, rule: ESConfig) -> CoefficientsExplained | None:
    """Return what the coefficients of a step are; None where their number or rounding keeps that from being told."""
    estimator = estimator_of(rule)
    if len(rewards) != estimator.evaluations or len(coefficients) not in (rule.population, estimator.evaluations):
        return None
    found = explain_coefficients(rewards, coefficients, rule)
    if found.known:
        return found
    rounding = max(_rounding(rewards), _rounding(coefficients))
    if rounding <= TOLERANCE:
        return found
    return None if rounding > LOOSEST else explain_coefficients(rewards, coefficients, rule, tolerance=rounding)


def _rounding(values: Array) -> float:
    """Return the unit to which logged values were rounded, decimal or of a binary format, relative to their spread."""
    decimal = next((10.0**-k for k in range(16) if np.array_equal(np.round(values, k), values)), 0.0)
    mantissas = np.frexp(values)[0]
    bits = next((k for k in (8, 11, 24) if np.array_equal(np.round(mantissas * 2.0**k), mantissas * 2.0**k)), 53)
    unit = max(decimal, 2.0**-bits * float(np.abs(values).max()))
    return unit / (float(values.std()) or math.inf)


def _of_seeds(steps: Sequence[Step], rule: ESConfig) -> list[Finding]:
    seeds = {step.step: step.seeds for step in steps if step.seeds}
    return [
        Finding(kind="seeds", text=f"{fault.text} (first at step {fault.steps[0]})", steps=fault.steps)
        for fault in explain_seeds(seeds, rule)
    ]
