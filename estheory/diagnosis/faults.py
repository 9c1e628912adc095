"""Faults of a step's length, and which of them explain a measured one.

A fault is a name and the factor by which it multiplies a length. Plain numbers go in: the ratio of a measured length to
that of the rule, with its relative error. The noise of a walk, the coefficients of a step (where the ratio is known to
rounding) and the spread of perturbations are all judged by the same candidates.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from estheory.landscape import Signal
from estheory.rules import ESConfig
from estheory.theory.estimators import estimator_of
from estheory.theory.walk import response


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One way of being wrong.

    Attributes
    ----------
    name
        What it is, as a clause: "1/N is missing".
    factor
        What it multiplies a length by; 1 for a fault that changes direction alone.
    """

    name: str
    factor: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """A fault that fits a measurement.

    Attributes
    ----------
    fault
        The candidate.
    misfit
        Distance of the measured ratio from its factor, in standard errors of the measurement.
    """

    fault: Fault
    misfit: float


def step_faults(rule: ESConfig) -> tuple[Fault, ...]:
    """Return the faults that multiply a step by a fixed factor, whatever the rewards.

    Parameters
    ----------
    rule
        What the step claims to be.

    Returns
    -------
    tuple of Fault
        Those that can be told from a right step: none of factor 1. The commonest come first.

    Examples
    --------
    >>> [fault.name for fault in step_faults(ESConfig(dim=10, sigma=0.1, population=30)) if fault.factor == 30]
    ['1/N is missing']
    """
    n, sigma, alpha = rule.population, rule.sigma, rule.step_size
    found = [("1/N is missing", n), ("1/N is applied twice", 1 / n), ("1/sqrt(N) stands for 1/N", math.sqrt(n))]
    found += estimator_of(rule).length_faults()
    found += [
        ("the update is applied twice", 2.0),
        ("alpha stands for alpha/2", 2.0),
        ("alpha/2 stands for alpha", 0.5),
        ("sigma stands for alpha", sigma / alpha),
        ("alpha is missing", 1 / alpha),
        ("alpha is applied twice", alpha),
    ]
    if rule.momentum:
        found.append(("momentum is without its factor 1 - beta", 1 / (1 - rule.momentum)))
    if rule.noise_rank is not None and rule.noise_rank > 1:
        root = math.sqrt(rule.noise_rank)
        found += [("1/sqrt(rank) is missing", root), ("1/rank stands for 1/sqrt(rank)", 1 / root)]
    return _told_apart(found)


def walk_faults(rule: ESConfig, steps: int, signal: Signal | None = None) -> tuple[Fault, ...]:
    """Return the faults that multiply the norm of a walk on flat directions: those of a step, and of the walk itself.

    Parameters
    ----------
    rule
        What the run claims to be.
    steps
        T of the measured displacement.
    signal
        What is known of the rewards; it enters for mirrored members. Nothing known counts as pure noise.

    Returns
    -------
    tuple of Fault
        As of :func:`step_faults`. What depends on more than the rule (frozen tensors, a tied head counted twice,
        rounding) is for the caller to add: a :class:`Fault` each.

    Raises
    ------
    ConfigError
        For too many steps with an anchor or momentum.
    """
    h = response(rule, steps)
    squares = float(steps) if h is None else float(h @ h)
    found = [
        ("one step too few is counted", math.sqrt((steps + 1) / steps)),
        ("one step too many is counted", math.sqrt((steps - 1) / steps)),
        ("steps are counted twice", math.sqrt(0.5)),
        ("every other step is counted", math.sqrt(2.0)),
        ("steps are added without regard to sign (alpha T, not alpha sqrt T)", math.sqrt(steps)),
    ]
    if h is not None:
        what = "neither anchor nor momentum is" if rule.anchor_l2 and rule.momentum else "the memory of steps is not"
        found.append((f"{what} applied", math.sqrt(steps / squares)))
    estimator = estimator_of(rule)
    if estimator.members_per_direction > 1:
        one = estimator.variance(signal or Signal()).value * rule.population / rule.step_size**2
        found.append(("mirrored members are independent ones", 1 / math.sqrt(one)))
        n = rule.population
        found.append(("the sign of mirrored noise is lost", math.sqrt((n - 2) / (n - 1) / one)))
    elif estimator.independent_zscores and rule.population % 2 == 0 and rule.population >= 4:
        pairs = estimator_of(replace(rule, antithetic=True)).variance(signal or Signal()).value
        single = estimator.variance(signal or Signal()).value
        found.append(("members are mirrored, which the rule does not say (antithetic)", math.sqrt(pairs / single)))
    return (*step_faults(rule), *_told_apart(found))


def perturbation_faults(rule: ESConfig) -> tuple[Fault, ...]:
    """Return the faults that multiply a member's perturbation sigma eps.

    Parameters
    ----------
    rule
        What the step claims to be.

    Returns
    -------
    tuple of Fault
        As of :func:`step_faults`.
    """
    sigma = rule.sigma
    found = [
        ("sigma is applied twice (sigma^2)", sigma),
        ("sigma is missing", 1 / sigma),
        ("sigma is taken for a variance (its square root is applied)", 1 / math.sqrt(sigma)),
        ("sigma is doubled", 2.0),
        ("sigma is halved", 0.5),
        ("alpha stands for sigma", rule.step_size / sigma),
        ("noise is uniform on [-1, 1], not normal", 1 / math.sqrt(3)),
        ("noise is uniform on [0, 1], not normal", 1 / math.sqrt(3)),
    ]
    if rule.noise_rank is not None and rule.noise_rank > 1:
        root = math.sqrt(rule.noise_rank)
        found += [("1/sqrt(rank) is missing", root), ("1/rank stands for 1/sqrt(rank)", 1 / root)]
    return _told_apart(found)


def _told_apart(found: Iterable[tuple[str, float]]) -> tuple[Fault, ...]:
    """Return the faults whose factor is a positive number other than 1."""
    return tuple(
        Fault(name=name, factor=float(factor))
        for name, factor in found
        if math.isfinite(factor) and factor > 0 and not math.isclose(factor, 1.0, rel_tol=1e-9)
    )


def explain_ratio(
    ratio: float, error: float, faults: Sequence[Fault], *, misfit: float = 4.0
) -> tuple[Explanation, ...]:
    """Return the faults that a measured ratio of lengths may come from, the best fit first.

    Faults of one factor fit alike: they cannot be told apart by this measurement, and all are returned.

    Parameters
    ----------
    ratio
        Measured length over that of the rule, > 0.
    error
        Its relative standard error, >= 0; a millionth is the least that is told apart.
    faults
        The candidates.
    misfit
        Largest distance that counts as a fit, in standard errors.

    Returns
    -------
    tuple of Explanation
        Empty where no candidate fits, or where a right step fits as well.

    Examples
    --------
    >>> rule = ESConfig(dim=10, sigma=0.1, population=30)
    >>> [found.fault.name for found in explain_ratio(30.1, 0.01, step_faults(rule))]
    ['1/N is missing']
    >>> explain_ratio(1.001, 0.01, step_faults(rule))
    ()
    """
    spread = max(error, 1e-6)
    if not (math.isfinite(ratio) and ratio > 0) or abs(math.log(ratio)) <= misfit * spread:
        return ()
    fits = [Explanation(fault=f, misfit=abs(math.log(ratio / f.factor)) / spread) for f in faults]
    return tuple(sorted((fit for fit in fits if fit.misfit <= misfit), key=lambda fit: round(fit.misfit, 6)))


def length_sentence(ratio: float, explanations: Sequence[Explanation]) -> str:
    """Return a clause on a ratio of lengths and what may be behind it.

    Parameters
    ----------
    ratio
        Measured over expected, >= 0.
    explanations
        As of :func:`explain_ratio`.

    Returns
    -------
    str

    Examples
    --------
    >>> length_sentence(30.0, [Explanation(fault=Fault(name="1/N is missing", factor=30), misfit=0)])
    '30 times too long: 1/N is missing'
    """
    if ratio == 0:
        return "nothing moved: the update is never applied, 16 bits swallow it, or this is the base itself"
    size = f"{ratio:.4g} times too long" if ratio > 1 else f"{1 / ratio:.4g} times too short"
    if not explanations:
        return f"{size}: no known fault has this factor"
    return f"{size}: {', or '.join(found.fault.name for found in explanations)}"
