"""The inverse of a forecast as one call: which sigma, alpha, N and T meet a drift budget and a target."""

from __future__ import annotations

from dataclasses import replace

from estheory.errors import ConfigError
from estheory.landscape import Landscape, linear_signal
from estheory.rules import ESConfig, Shaping
from estheory.theory.estimators import estimator_of
from estheory.theory.planning.budgets import DriftBudget
from estheory.theory.planning.choices import DEFAULT_POPULATIONS, Choices, arms
from estheory.theory.planning.search import Plan, Planner
from estheory.theory.planning.spectrum_target import SpectrumTarget
from estheory.theory.planning.targets import LocalTarget


def plan(
    *,
    dim: int,
    budget: DriftBudget,
    target_progress: float | None = None,
    target_gain: float | None = None,
    reliability: float | None = None,
    gradient_norm: float | None = None,
    reward_std: float | None = None,
    curvature_trace: float | None = None,
    gradient_curvature: float | None = None,
    landscape: Landscape | None = None,
    choices: Choices | None = None,
    shaping: Shaping = "zscore",
    antithetic: bool = False,
) -> Plan:
    """Find the run of fewest evaluations N T that attains a target in the mean and keeps a drift budget.

    The signal is known by ``gradient_norm`` and ``reward_std``, or by ``reliability`` at the one sigma to choose from,
    or by a ``landscape``. Derivations in docs/how-to/plan.md.

    Parameters
    ----------
    dim
        Number of trained parameters, d.
    budget
        How far the run may go.
    target_progress
        Mean displacement along the gradient (weight). Or:
    target_gain
        Mean gain of reward.
    reliability
        rho^2, the share of a member's reward variance that is signal.
    gradient_norm, reward_std
        ||g|| (reward/weight) and s (reward).
    curvature_trace, gradient_curvature
        tr Lam and g'Lam g/||g||^2 (reward/weight^2), for what curvature costs a gain; 0 when None.
    landscape
        The reward's spectrum, in place of all that; with ``target_gain``.
    choices
        What to choose from; `Choices` with its defaults when None.
    shaping
        ``zscore`` or ``centered-rank``.
    antithetic
        Whether the N members are N/2 pairs.

    Returns
    -------
    Plan
        Its ``recommendation`` is None where nothing meets both.

    Raises
    ------
    ConfigError
        For contradictory or insufficient input.

    Notes
    -----
    Label: exact for progress of a linear reward; gains are small-step, those of a landscape mean-field.
    Source: ours: docs/how-to/plan.md.

    Examples
    --------
    >>> answer = plan(
    ...     dim=4_000_000_000,
    ...     budget=DriftBudget(max_norm=90),
    ...     target_progress=0.05,
    ...     reliability=0.3,
    ...     choices=Choices(sigmas=(0.0015,)),
    ... )
    >>> run = answer.recommendation.config
    >>> run.population, run.steps, answer.recommendation.evaluations
    (68, 62, 4216)
    """
    choices = choices or Choices()
    if (target_progress is None) == (target_gain is None):
        what = "no target" if target_gain is None else "--target-progress and --target-gain exclude each other"
        raise ConfigError(what, "give --target-progress or --target-gain")
    base = ESConfig(dim=dim, sigma=1.0, population=4, shaping=shaping, antithetic=antithetic)
    if not (estimator := estimator_of(base)).scale_free:
        raise ConfigError(f"{estimator.title} has no part in a plan: its alpha is no length", "use zscore")
    if landscape is not None:
        known = (reliability, gradient_norm, reward_std, curvature_trace, gradient_curvature)
        if target_gain is None or known != (None,) * len(known):
            raise ConfigError(
                "--spectrum goes with --target-gain and --reward-std alone", "the spectrum fixes gradient and curvature"
            )
        return _on_landscape(landscape, target_gain, base, choices, budget)
    if reliability is not None and len(choices.sigmas) > 1:
        raise ConfigError("--reliability holds at one sigma", "give one --sigma, or --gradient-norm and --reward-std")
    if reliability is None and (gradient_norm is None or reward_std is None):
        raise ConfigError(
            "the signal is unknown", "give --gradient-norm and --reward-std, or --reliability with one --sigma"
        )
    signals = {
        sigma: linear_signal(sigma=sigma, reliability=reliability, gradient_norm=gradient_norm, reward_std=reward_std)
        for sigma in choices.sigmas
    }
    trace, along = curvature_trace or 0.0, gradient_curvature or 0.0
    if target_gain is None:
        assert target_progress is not None  # one of the two is given
        target = LocalTarget(name="target-progress", value=target_progress, trace=trace, gradient_curvature=along)
    else:
        slope = signals[choices.sigmas[0]].gradient_norm
        if slope is None:
            raise ConfigError("--target-gain needs the gradient norm", "give --gradient-norm")
        target = LocalTarget(
            name="target-gain", value=target_gain, gradient_norm=slope, trace=trace, gradient_curvature=along
        )
    return Planner(arms=arms(base, choices, signals), choices=choices, budget=budget, target=target).plan()


def _on_landscape(landscape: Landscape, gain: float, base: ESConfig, choices: Choices, budget: DriftBudget) -> Plan:
    if not landscape.gradient_norm:
        raise ConfigError("the landscape starts at its optimum", "give an offset above 0 to a curved row")
    signals = {sigma: landscape.signal(sigma) for sigma in choices.sigmas}
    coarse = replace(choices, populations=choices.populations or DEFAULT_POPULATIONS[::2])  # a trajectory each
    target = SpectrumTarget(value=gain, landscape=landscape)
    return Planner(arms=arms(base, coarse, signals), choices=choices, budget=budget, target=target).plan()
