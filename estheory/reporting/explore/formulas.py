"""The formulas of the what-if page, put together from the results of the derivations; nothing here is derived.

Each is a sympy expression in the page's inputs and in the formulas before it, by name: the names of ``predict``'s
quantities, and those of the steps between.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from estheory.derivations import pairs
from estheory.derivations.algebra import Expr, sp
from estheory.derivations.catalogue import derive
from estheory.derivations.drift import TRACE
from estheory.derivations.economy import CURVATURE, GAIN, PAID
from estheory.derivations.notation import GRADIENT, VARIANCE, D, N, S, T, alpha, rho, sigma
from estheory.derivations.own_length import ALONG, FREEDOM, RUN_FREEDOM, TILT
from estheory.derivations.quadratic import TRACE as SMOOTHED
from estheory.derivations.steering import FLAT_VARIANCE, MOVED, SPREAD
from estheory.rules import Shaping
from estheory.theory.run_norm import EXACT_SHIFT, NEGLIGIBLE_SHIFT

LEVEL = 0.95
"""Probability of the intervals, that of ``predict``."""
_ENDS = (("low", sp.Rational(1, 40)), ("high", sp.Rational(39, 40)))

RELIABILITY = sp.Symbol("reliability", positive=True)
GAP = sp.Symbol("gap", positive=True)
FISHER_TRACE = sp.Symbol("fisher_trace", positive=True)
INPUTS: dict[str, Expr] = {
    "dim": D,
    "sigma": sigma,
    "alpha": alpha,
    "population": N,
    "steps": T,
    "reliability": RELIABILITY,
    "member_std": S,
    "gap": GAP,
    "fisher_trace": FISHER_TRACE,
}
"""What the page has a control for, by name."""

chi_square_quantile = sp.Function("chiSquareQuantile")
"""Of a probability and degrees of freedom; the page's special functions have it."""
mixed_quantile = sp.Function("mixedChiSquareQuantile")
"""Of a probability and the degrees of freedom n and m of chi^2_n chi^2_m / m."""
student_quantile = sp.Function("studentQuantile")
"""Of a probability and degrees of freedom."""

CORRELATION = sp.sqrt(RELIABILITY)
GRADIENT_NORM = CORRELATION * S / sigma


def known(name: str, values: Mapping[Expr, Expr] | None = None) -> Expr:
    """Return the result of a derivation, with expressions in the place of its symbols."""
    return derive(name).result.subs(
        {rho: CORRELATION, GRADIENT.symbol: GRADIENT_NORM, **(values or {})}, simultaneous=True
    )


@dataclass(frozen=True, kw_only=True)
class ShapedStep:
    """What one step is under one way of shaping the rewards.

    Attributes
    ----------
    variance
        Of a flat coordinate, weight^2.
    progress
        Along the gradient, weight units.
    spread
        Variance of the projection on the gradient over that of a flat coordinate.
    first_scatter
        2 E[x]^2 / n of the first step, x its square over a flat coordinate's variance and n the degrees of freedom of
        the chi law of its norm; None where it is that of a normal projection.
    freedom
        Degrees of freedom of a step's own length; None where it is fixed.
    bounded
        Whether there is a bound on the progress for any reward: that of rewards without noise.
    measured_alpha
        Step size up to which the members measured the reward, weight units; None where that is not known.
    exact_first_step
        Whether the norm of the first step has an exact law, its signal in it.
    """

    variance: Expr
    progress: Expr
    spread: Expr
    first_scatter: Expr | None = None
    freedom: Expr | None = None
    bounded: bool = True
    measured_alpha: Expr | None = None
    exact_first_step: bool = True


def _own_length(*, variance: Expr, progress: Expr, freedom: Expr, along: Expr) -> ShapedStep:
    """Return a step that is as long as its rewards are spread."""
    projection = {ALONG.symbol: along, FREEDOM.symbol: freedom}
    return ShapedStep(
        variance=variance,
        progress=progress,
        spread=known("own-length-spread", projection),
        first_scatter=known("own-length-square", projection),
        freedom=freedom,
        bounded=False,
    )


_flat = known("flat-variance")
STEPS: dict[Shaping, ShapedStep] = {
    "zscore": ShapedStep(
        variance=_flat,
        progress=known("progress"),
        spread=known("projection-variance"),
        first_scatter=known("step-norm-square-variance") / _flat**2,
        # a declared choice, not a result: estheory.theory.economy.update.largest_measured_alpha
        measured_alpha=sp.Min(sigma * sp.sqrt(N), 2 * sigma / CORRELATION),
    ),
    "centered-rank": ShapedStep(
        variance=known("rank-variance"),
        progress=known("rank-progress"),
        spread=known("rank-projection-variance"),
        exact_first_step=False,
    ),
    "raw": _own_length(
        variance=known("raw-variance"),
        progress=known("raw-progress"),
        freedom=N - 1,
        along=CORRELATION,
    ),
    "two-point": _own_length(
        variance=known(
            "two-point-noise",
            {
                pairs.g_k: 0,
                pairs.g_o: GRADIENT_NORM,
                pairs.s: sp.sqrt(1 - RELIABILITY) * S,
                pairs.n: N,
                pairs.WIDTH.symbol: sigma,
            },
        ),
        progress=known("two-point-displacement", {pairs.g_k: GRADIENT_NORM}),
        freedom=N,
        along=sp.sqrt(known("pair-correlation")),
    ),
}


def formulas(shaping: Shaping) -> dict[str, Expr]:
    """Return the formulas of the page in the order in which they are evaluated.

    `shaping`: a key of :data:`STEPS`.
    """
    found: dict[str, Expr] = {}

    def let(name: str, expression: Expr) -> Expr:
        found[name] = expression
        return sp.Symbol(name, positive=True)

    step = STEPS[shaping]
    once = let("step_variance", step.variance)
    progress = let("progress_per_step", step.progress)
    walked = let("walk_variance", T * once)
    _norm(step, let, once, walked, T * progress)

    drift = let("kl_drift", known("kl-mean", {VARIANCE.symbol: walked, TRACE.symbol: FISHER_TRACE}))
    if step.freedom is not None:
        freedom = step.freedom * T
        for end, tail in _ENDS:
            let(f"kl_drift_{end}", drift * chi_square_quantile(tail, freedom) / freedom)

    if step.bounded:
        bound = T * step.progress.subs(RELIABILITY, 1)
        let("coherent_displacement_bound", bound)
        share = let("signal_share_bound", sp.Min(1, bound**2 / (walked * D)))
        let("es_grpo_cosine_bound", sp.sqrt(share))
    student = student_quantile(_ENDS[1][1], D - 1)
    let("cosine_noise", student / sp.sqrt(D - 1 + student**2))

    gain = let("reward_gain_per_step", progress * GRADIENT_NORM)
    trace = sp.solve(sp.Eq(known("smoothing-gap"), GAP), SMOOTHED.symbol)[0]
    noise = N * step.variance.subs(RELIABILITY, 0)  # what the signal adds to a step is no part of its diffusion
    cost = let("diffusion_cost_per_step", known("diffusion-cost", {alpha: sp.sqrt(noise), CURVATURE.symbol: trace}))
    let("net_gain_per_step", gain - cost)
    best = derive("best-net-gain")
    let("optimal_alpha", alpha * best.resolved()[0][1].subs({GAIN.symbol: gain, PAID.symbol: cost}))
    let("best_net_gain", best.result.subs({GAIN.symbol: gain, PAID.symbol: cost}))
    if step.measured_alpha is not None:
        let("largest_measured_alpha", step.measured_alpha)
    return found


def _norm(step: ShapedStep, let: Callable[[str, Expr], Expr], once: Expr, walked: Expr, progress: Expr) -> None:
    """Let the norm of the run be known: a chi law, of the walk or with the moments that the signal adds."""
    spread = let("projection_spread", step.spread)
    moved = let("coherent_displacement", progress)
    steered = {FLAT_VARIANCE.symbol: walked, MOVED.symbol: moved, SPREAD.symbol: spread}
    square = let("mean_square", known("steered-norm-square", steered))
    first = sp.Eq(T, 1)
    if step.freedom is None:
        of_run = known("steered-norm-square-variance", steered)
    else:
        lengths = {RUN_FREEDOM.symbol: step.freedom * T, TILT.symbol: 2 / step.freedom / T}
        of_run = known("steered-norm-square-variance-own-length", {**steered, **lengths})
    if step.first_scatter is not None:
        of_run = sp.Piecewise((once**2 * step.first_scatter, first), (of_run, True))
    scatter = let("square_variance", of_run)
    plain = walked * D
    shift = sp.Max(sp.Abs(square - plain) / plain * sp.sqrt(D / 2), moved**2 / plain * sp.sqrt(D))
    found_shift = let("signal_shift", shift)
    is_walk = found_shift < sp.Float(NEGLIGIBLE_SHIFT)
    alone = found_shift < sp.Float(EXACT_SHIFT)
    with_signal = sp.And(first, sp.Not(is_walk))
    let("keeps_exact_law", sp.Or(alone, with_signal) if step.exact_first_step else alone)
    df = let("norm_df", sp.Piecewise((D, is_walk), (2 * square**2 / scatter, True)))
    scale = let("norm_scale", sp.Piecewise((sp.sqrt(walked), is_walk), (sp.sqrt(square / df), True)))
    unit = known("norm-mean", {alpha: 1, T: 1, N: 1})
    mean, quantile = unit.subs(D, df), {end: chi_square_quantile(tail, df) for end, tail in _ENDS}
    if step.freedom is not None:  # the signal's moments have the lengths of several steps in them
        freedom, scatters = step.freedom * T, sp.Or(is_walk, first)
        mean *= sp.Piecewise((unit.subs(D, freedom) / sp.sqrt(freedom), scatters), (1, True))
        quantile = {
            end: sp.Piecewise((mixed_quantile(tail, df, freedom), scatters), (quantile[end], True))
            for end, tail in _ENDS
        }
    let("displacement_norm", scale * mean)
    for end in quantile:
        let(f"displacement_norm_{end}", scale * sp.sqrt(quantile[end]))


def carried(to: Expr) -> dict[str, Expr]:
    """Return what reliability, spread and gap become at another sigma, the reward's gradient, noise and curvature kept.

    `to`: the other sigma, weight units.
    """
    linear = RELIABILITY * S**2 * (to / sigma) ** 2
    seen = linear + (1 - RELIABILITY) * S**2
    ratio = derive("smoothing-gap").result
    return {
        "reliability": linear / seen,
        "member_std": sp.sqrt(seen),
        "gap": GAP * ratio.subs(sigma, to) / ratio,
    }
