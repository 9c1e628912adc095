"""Steps as long as the rewards of their members are spread: raw rewards and two-point differences.

The squared length of the shaped rewards is a chi-square variable, V = chi_m^2 / m over its mean, and the projection on
the gradient is sqrt(V) A with A = a chi_m + sqrt(1 - a^2) Z and the same chi_m.
"""

from __future__ import annotations

from estheory.derivations.algebra import Expr, sp
from estheory.derivations.derivation import Derivation, Evaluator, Values, agrees, define, follows
from estheory.derivations.notation import (
    ALPHA,
    GRADIENT,
    POPULATION,
    RHO,
    SIGMA,
    D,
    N,
    alpha,
    chi_square_mean,
    gaussian_mean,
    given,
    half,
    named,
    rho,
    sigma,
    x,
    y,
)
from estheory.derivations.signal import GAUSSIAN, OURS, PROGRESS
from estheory.derivations.steering import (
    FLAT_VARIANCE,
    MOVED,
    SPACE,
    SPREAD,
    SQUARE_VARIANCE,
    STRAIGHT,
    moved,
    spread,
    v,
)
from estheory.landscape import Signal
from estheory.rules import ESConfig
from estheory.theory import signal as theory
from estheory.theory.estimators import RawRewards, TwoPoint, estimator_of
from estheory.theory.run_norm import steered_norm
from estheory.theory.walk import Walk

g = GRADIENT.symbol
OVERLAP = named("E[(R−R̄)x]", r"\mathbb{E}[(R-\bar R)x]", "mean overlap of a centred reward with its signal", "reward")


def _raw(values: Values) -> RawRewards:
    return RawRewards(
        population=int(values["population"]), sigma=values.get("sigma", 1.0), alpha=values.get("alpha", 1.0)
    )


raw_progress = Derivation(
    name="raw-progress",
    title="Progress along the gradient in one step of raw rewards",
    assumptions=("linear signal", "in-sample baseline: the step is (alpha/(N sigma)) sum (R_i - mean) eps_i"),
    label="exact",
    source=OURS,
    symbols=(ALPHA, SIGMA, POPULATION, GRADIENT, OVERLAP, PROGRESS),
    steps=(
        define(
            OVERLAP.symbol,
            (1 - 1 / N) * gaussian_mean(sigma * g * x * x),
            "A reward holds sigma ||g|| x of its own x, and the mean holds 1/N of it.",
        ),
        define(PROGRESS.symbol, alpha / (N * sigma) * N * OVERLAP.symbol, "N members."),
        agrees(PROGRESS.symbol, alpha * g * (N - 1) / N, "Of a gradient step the baseline takes one member."),
    ),
    evaluator=Evaluator(
        name="estheory.theory.estimators.estimator.Estimator.progress",
        call=lambda w: _raw(w).progress(Signal(gradient_norm=w["gradient_norm"])),
    ),
)

ODD = named("Var o/S²", r"\operatorname{Var}o/S^2", "variance of half a pair's difference over that of a reward")
SHARE = named("a²", "a^2", "share of the linear signal in the variance of a pair's difference")

pair_correlation = Derivation(
    name="pair-correlation",
    title="Share of the signal in the variance of the difference of two mirrored rewards",
    assumptions=(GAUSSIAN, "the two rewards of a pair have independent noise"),
    label="exact",
    source=OURS,
    symbols=(RHO, ODD, SHARE),
    steps=(
        define(ODD.symbol, rho**2 + half * (1 - rho**2), "The signal stays whole, the noise of two rewards halves."),
        define(SHARE.symbol, rho**2 / ODD.symbol, "What the signal has of it."),
        follows(SHARE.symbol, 2 * rho**2 / (1 + rho**2), "More than rho^2: a pair cancels noise."),
    ),
    evaluator=Evaluator(
        name="estheory.theory.estimators.estimator.Estimator.pair_correlation",
        call=lambda w: TwoPoint(population=2, sigma=1.0, alpha=1.0).pair_correlation(w["correlation"] ** 2) ** 2,
    ),
)

FREEDOM = given("m", "m", "freedom", "degrees of freedom of the length", typical=(2, 9), extreme=(1, 10**6))
ALONG = given(
    "a", "a", "along", "correlation of a shaped reward with its signal", typical=(0.1, 0.9), extreme=(1e-9, 1.0)
)
SCATTER = named(
    "Var √V A", r"\operatorname{Var}\sqrt V A", "variance of the step along the gradient, of a flat one's 1"
)
m, a = FREEDOM.symbol, ALONG.symbol
_rest = 1 - a**2
OWN_LENGTH = "Gaussian rewards: V = chi_m^2/m is the step's own variance over its mean"


def _one_step(values: Values) -> tuple[ESConfig, Signal]:
    """Return a raw configuration and its signal with N - 1 = m, S = sigma = 1."""
    dim = int(values.get("dim", 10))
    signal = Signal(reliability=values["along"] ** 2, gradient_norm=values["along"], member_std=1.0)
    return ESConfig(dim=dim, sigma=1.0, alpha=1.0, population=int(values.get("freedom", 7)) + 1, shaping="raw"), signal


def _scatter(values: Values) -> float:
    config, signal = _one_step(values)
    estimator = estimator_of(config)
    mean = estimator.progress(signal)
    return estimator.projection_moments(values["along"] ** 2, 0.0)[0] - mean**2 / estimator.variance(signal).value


own_length_spread = Derivation(
    name="own-length-spread",
    title="How the projection on the gradient scatters of a step that is as long as its rewards are spread",
    assumptions=(OWN_LENGTH,),
    label="exact",
    source=OURS,
    symbols=(FREEDOM, ALONG, SCATTER),
    steps=(
        define(
            SCATTER.symbol,
            a**2 * chi_square_mean(y**2 / m, m)
            + _rest * chi_square_mean(y / m, m) * gaussian_mean(x**2)
            - (a * chi_square_mean(y / sp.sqrt(m), m)) ** 2,
            "The projection is sqrt(V) (a chi_m + sqrt(1-a^2) Z) with V = chi_m^2/m: mean square less squared mean.",
        ),
        agrees(SCATTER.symbol, 1 + a**2, "However many members: the length scatters with the signal in it."),
    ),
    evaluator=Evaluator(
        name="estheory.theory.estimators.raw.RawRewards.projection_moments",
        call=_scatter,
        rtol=1e-8,  # a mean square of the size of m less a square of that size
    ),
)

TILTED_SQUARE = named("q", "q", "mean square of a step over a flat coordinate's")
TILTED_FOURTH = named("E[V²·]", r"\mathbb{E}[V^2\,\cdot\,]", "E[V^2 (chi^2_{d-1} + A^2)^2] / E[V^2]")
TILTED_SPREAD = named("q₂", "q_2", "what V leaves of the relative variance of the squared step, times q^2")
_squared: Expr = a**2 * y + _rest


def _tilted_spread(values: Values) -> float:
    config, signal = _one_step(values)
    law = theory.step_norm(config, signal, float(config.dim))
    square = law.scale**2 * law.df / estimator_of(config).variance(signal).value
    return 2 * square**2 / law.df


own_length_square = Derivation(
    name="own-length-square",
    title="Spread of the square of one step that is as long as its rewards are spread, beside that of its length",
    assumptions=(OWN_LENGTH,),
    label="exact",
    source=OURS,
    symbols=(FREEDOM, ALONG, SPACE, TILTED_SQUARE, TILTED_FOURTH, TILTED_SPREAD),
    steps=(
        define(
            TILTED_SQUARE.symbol,
            D - 1 + chi_square_mean(y / m * _squared, m),
            "E[V (chi^2_{d-1} + A^2)]: V weighs the chi_m in A.",
        ),
        agrees(TILTED_SQUARE.symbol, D + (m + 1) * a**2, "One member more than of z-scores, and its noise."),
        define(
            TILTED_FOURTH.symbol,
            chi_square_mean(
                y**2 * (D**2 - 1 + 2 * (D - 1) * _squared + a**4 * y**2 + 6 * a**2 * _rest * y + 3 * _rest**2), m
            )
            / (m * (m + 2)),
            "E V^2 = (m+2)/m; chi^2_{d-1} has the mean square d^2 - 1, and Z the fourth moment 3.",
        ),
        define(
            TILTED_SPREAD.symbol,
            TILTED_FOURTH.symbol - TILTED_SQUARE.symbol**2,
            "sqrt(V) chi_n with n = 2 q^2/q_2 then has the mean square and the variance of the square.",
        ),
        agrees(
            TILTED_SPREAD.symbol,
            2 * (D - 1) * (1 + 2 * a**2) + a**4 * (6 * m + 20) + 4 * a**2 * _rest * (m + 5) + 2 * _rest**2,
            "2 d without signal.",
        ),
    ),
    evaluator=Evaluator(name="estheory.theory.signal.step_norm", call=_tilted_spread, rtol=1e-9),
)

RUN_FREEDOM = given(
    "M", "M", "run_freedom", "degrees of freedom of the fluctuation of v", typical=(2, 9), extreme=(2, 10**6)
)
TILT = given(
    "tau",
    r"\tau",
    "tilt",
    "relative covariance of a run's variance and its progress",
    typical=(0.01, 0.1),
    extreme=(1e-9, 1.0),
)
WALKED = named(
    "Var flat", r"\operatorname{Var}_\mathrm{flat}", "variance of the flat coordinates' sum of squares", "weight^4"
)
tau = TILT.symbol


def _fluctuating(values: Values) -> float:
    walked = Walk(
        variance=values["variance"],
        effective_dim=values["dim"],
        dim=int(values["dim"]),
        mixing_df=values["run_freedom"],
        coherent_steps=1.0,
        label="exact",
        source=OURS,
        assumptions=(),
        tilt=values["tilt"],
    )
    law = steered_norm(walked, values["progress"], values["spread"])
    return 2 * law.scale**4 * law.df


fluctuating_square = Derivation(
    name="steered-norm-square-variance-own-length",
    title="Variance of the squared displacement of a run that its signal moves, by steps of their own length",
    assumptions=(*STRAIGHT, "to first order in how progress goes with the length of a step"),
    label="large-N",
    source=OURS,
    symbols=(FLAT_VARIANCE, MOVED, SPREAD, SPACE, RUN_FREEDOM, TILT, WALKED, SQUARE_VARIANCE),
    steps=(
        define(
            WALKED.symbol,
            v**2
            * (
                chi_square_mean((y / RUN_FREEDOM.symbol) ** 2, RUN_FREEDOM.symbol) * chi_square_mean(y**2, D - 1)
                - (D - 1) ** 2
            ),
            "All d - 1 share one variance, v chi_M^2/M.",
        ),
        define(
            SQUARE_VARIANCE.symbol,
            WALKED.symbol
            + gaussian_mean(((moved + sp.sqrt(v * spread) * x) ** 2 - moved**2 - v * spread) ** 2)
            + 2 * (v * (D - 1)) * (2 * moved**2) * tau,
            "And the coordinate along the gradient, whose P grows by P tau as v grows by v.",
        ),
        agrees(
            SQUARE_VARIANCE.symbol,
            2 * v**2 * ((D - 1) * (1 + (D + 1) / RUN_FREEDOM.symbol) + spread**2)
            + 4 * moved**2 * v * (spread + (D - 1) * tau),
            "steered-norm-square-variance for M without end.",
        ),
    ),
    evaluator=Evaluator(name="estheory.theory.run_norm.steered_norm", call=_fluctuating, rtol=1e-11),
)

DERIVATIONS = (raw_progress, pair_correlation, own_length_spread, own_length_square, fluctuating_square)
