"""The formulas of the what-if page, put together from the results of the derivations; nothing here is derived.

Each is a sympy expression in the page's inputs and in the formulas before it, by name: the names of ``predict``'s
quantities, and those of the steps between.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from estheory.derivations.algebra import Expr, sp
from estheory.derivations.catalogue import derive
from estheory.derivations.drift import TRACE
from estheory.derivations.economy import CURVATURE, GAIN, PAID
from estheory.derivations.notation import VARIANCE, D, N, S, T, alpha, rho, sigma
from estheory.derivations.quadratic import TRACE as SMOOTHED
from estheory.derivations.steering import FLAT_VARIANCE, MOVED, SPREAD
from estheory.rules import Shaping
from estheory.theory.run_norm import NEGLIGIBLE_SHIFT

LEVEL = 0.95
"""Probability of the intervals, that of ``predict``."""
_TAILS = (sp.Rational(1, 40), sp.Rational(39, 40))

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
student_quantile = sp.Function("studentQuantile")
"""Likewise."""


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
    square_variance
        Of the squared norm of one step, weight^4, where it is not that of a normal projection.
    """

    variance: Expr
    progress: Expr
    spread: Expr
    square_variance: Expr | None = None


STEPS: dict[Shaping, ShapedStep] = {
    "zscore": ShapedStep(
        variance=derive("flat-variance").result,
        progress=derive("progress").result,
        spread=derive("projection-variance").result,
        square_variance=derive("step-norm-square-variance").result,
    ),
    "centered-rank": ShapedStep(
        variance=derive("rank-variance").result,
        progress=derive("rank-progress").result,
        spread=derive("rank-projection-variance").result,
    ),
}


def formulas(shaping: Shaping) -> dict[str, Expr]:
    """Return the formulas of the page in the order in which they are evaluated.

    Parameters
    ----------
    shaping
        A key of :data:`STEPS`.
    """
    step = STEPS[shaping]
    found: dict[str, Expr] = {}

    def let(name: str, expression: Expr) -> Expr:
        found[name] = expression
        return sp.Symbol(name, positive=True)

    def known(name: str, values: Mapping[Expr, Expr]) -> Expr:
        return derive(name).result.subs(values, simultaneous=True)

    correlation = sp.sqrt(RELIABILITY)
    once = let("step_variance", step.variance)
    progress = let("progress_per_step", step.progress.subs(rho, correlation))
    spread = let("projection_spread", step.spread.subs(rho, correlation))
    walked = let("walk_variance", T * once)
    moved = let("coherent_displacement", T * progress)

    plain = walked * D
    steered: dict[Expr, Expr] = {FLAT_VARIANCE.symbol: walked, MOVED.symbol: moved, SPREAD.symbol: spread}
    square = let("mean_square", known("steered-norm-square", steered))
    of_run = known("steered-norm-square-variance", steered)
    if step.square_variance is not None:
        of_run = sp.Piecewise((step.square_variance.subs(rho, correlation), sp.Eq(T, 1)), (of_run, True))
    scatter = let("square_variance", of_run)
    shift = let("signal_shift", sp.Max(sp.Abs(square - plain) / plain * sp.sqrt(D / 2), moved**2 / plain * sp.sqrt(D)))
    is_walk = shift < sp.Float(NEGLIGIBLE_SHIFT)
    df = let("norm_df", sp.Piecewise((D, is_walk), (2 * square**2 / scatter, True)))
    scale = let("norm_scale", sp.Piecewise((sp.sqrt(walked), is_walk), (sp.sqrt(square / df), True)))
    unit = derive("norm-mean").result.subs({alpha: 1, T: 1, N: 1, D: df}, simultaneous=True)
    let("displacement_norm", scale * unit)
    for end, tail in zip(("low", "high"), _TAILS, strict=True):
        let(f"displacement_norm_{end}", scale * sp.sqrt(chi_square_quantile(tail, df)))

    let("kl_drift", known("kl-mean", {VARIANCE.symbol: walked, TRACE.symbol: FISHER_TRACE}))

    bound = T * step.progress.subs(rho, 1)
    let("coherent_displacement_bound", bound)
    share = let("signal_share_bound", sp.Min(1, bound**2 / plain))
    let("es_grpo_cosine_bound", sp.sqrt(share))
    student = student_quantile(_TAILS[1], D - 1)
    let("cosine_noise", student / sp.sqrt(D - 1 + student**2))

    gain = let("reward_gain_per_step", progress * correlation * S / sigma)
    trace = sp.solve(sp.Eq(derive("smoothing-gap").result, GAP), SMOOTHED.symbol)[0]
    paid = known("diffusion-cost", {alpha: sp.sqrt(N * once), CURVATURE.symbol: trace})
    cost = let("diffusion_cost_per_step", paid)
    let("net_gain_per_step", gain - cost)
    best = derive("best-net-gain")
    factor = best.resolved()[0][1]
    let("optimal_alpha", alpha * factor.subs({GAIN.symbol: gain, PAID.symbol: cost}))
    # a declared choice, not a result: estheory.theory.economy.update.largest_measured_alpha
    let("largest_measured_alpha", sp.Min(sigma * sp.sqrt(N), 2 * sigma / correlation))
    let("best_net_gain", best.result.subs({GAIN.symbol: gain, PAID.symbol: cost}))
    return found


def carried(to: Expr) -> dict[str, Expr]:
    """Return what reliability, spread and gap become at another sigma, the reward's gradient, noise and curvature kept.

    Parameters
    ----------
    to
        The other sigma, weight units.
    """
    linear = RELIABILITY * S**2 * (to / sigma) ** 2
    seen = linear + (1 - RELIABILITY) * S**2
    ratio = derive("smoothing-gap").result
    return {
        "reliability": linear / seen,
        "member_std": sp.sqrt(seen),
        "gap": GAP * ratio.subs(sigma, to) / ratio,
    }


def keeps_exact_law(shaping: Shaping) -> Expr:
    """Return when the norm's label stays ``exact``: while the run walks; z-scores, in their first step too."""
    walks = sp.Symbol("signal_shift", positive=True) < sp.Float(NEGLIGIBLE_SHIFT)
    return walks if STEPS[shaping].square_variance is None else sp.Or(walks, sp.Eq(T, 1))
