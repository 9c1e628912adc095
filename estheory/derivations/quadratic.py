"""One z-scored step on a quadratic reward: its gain, the best step and the critical population."""

from __future__ import annotations

import math

import numpy as np

from estheory.derivations.curvature import QUADRATIC
from estheory.derivations.derivation import Derivation, Evaluator, Values, agrees, define, follows
from estheory.derivations.notation import (
    ALPHA,
    C_OF_N,
    C_STEPS,
    GRADIENT,
    MEMBER_STD,
    POPULATION,
    SIGMA,
    N,
    S,
    alpha,
    c,
    gaussian_mean,
    given,
    half,
    named,
    sigma,
    x,
)
from estheory.landscape import Landscape
from estheory.rules import ESConfig
from estheory.theory.curved import step as theory

OURS = theory.OURS
LEADING = "leading order in 1/N and in the quadratic share x_k"
CURVATURES = {"typical": (0.3, 3.0), "extreme": (1e-3, 1e3)}
TRACE = given("tr Λ", r"\operatorname{tr}\Lambda", "trace", "trace of the curvature", "reward/weight^2", **CURVATURES)
ALONG = given("g'Λg", r"g'\Lambda g", "gradient_curvature", "curvature along g", "reward^3/weight^4", **CURVATURES)
g, trace, along = GRADIENT.symbol, TRACE.symbol, ALONG.symbol


def _config(v: Values) -> ESConfig:
    return ESConfig(dim=10**6, sigma=v.get("sigma", 1.0), alpha=v.get("alpha"), population=int(v["population"]))


GAIN = named("G", "G", "expected gain of one step", "reward")
NOISE_CURVATURE = named(
    "A", "A", "noise curvature: what the noise of a step costs is alpha^2 A / (2N)", "reward/weight^2"
)
CUBE = given(
    "tr Λ³", r"\operatorname{tr}\Lambda^3", "cube_trace", "trace of its cube", "reward^3/weight^6", **CURVATURES
)
BEST = named("α*", r"\alpha^*", "step size of the largest expected gain", "weight")
BEST_GAIN = named("G*", "G^*", "gain at the best step", "reward")
SATURATED = named("G_∞", r"G_\infty", "its limit for many members", "reward")
CRITICAL = named("N_crit", r"N_{\mathrm{crit}}", "critical population")
FIRST_ORDER = named("E[g·Δ]", r"\mathbb{E}[g\cdot\Delta]", "first-order part of the gain", "reward")
SECOND_ORDER = named("E[Δ'ΛΔ]", r"\mathbb{E}[\Delta'\Lambda\Delta]", "mean curvature of the step", "reward")
big_a = NOISE_CURVATURE.symbol

STEEP = given("lambda_1", r"\lambda_1", "first_eigenvalue", "curvature along the gradient", extreme=(1e-2, 10.0))
BESIDE = given("lambda_2", r"\lambda_2", "second_eigenvalue", "curvature of the others", extreme=(1e-2, 10.0))
OTHERS = given("m", "m", "others", "number of the others", typical=(1, 9), extreme=(1, 1000))
_PARAMETERS = (ALPHA, SIGMA, POPULATION, STEEP, BESIDE, OTHERS)


def _landscape(v: Values, noise: float) -> Landscape:
    """Return a gradient of size 1 along one direction of lambda_1, m others of lambda_2, and reward noise."""
    return Landscape(
        dim=10**6,
        eigenvalue=np.array([v["first_eigenvalue"], v["second_eigenvalue"]]),
        multiplicity=np.array([1.0, v["others"]]),
        offset=np.array([1 / v["first_eigenvalue"], 0.0]),
        reward_std=noise,
    )


def _noise(v: Values, share: float) -> float:
    """Return the reward noise at which the largest x_k is about ``share``."""
    return v["sigma"] ** 2 * max(v["first_eigenvalue"], v["second_eigenvalue"]) / math.sqrt(share) + v["sigma"]


def _inputs(v: Values, share: float) -> dict[str, float]:
    landscape = _landscape(v, _noise(v, share))
    return {
        **v,
        "gradient_norm": landscape.gradient_norm,
        "trace": landscape.trace,
        "cube_trace": float(landscape.multiplicity @ landscape.eigenvalue**3),
        "gradient_curvature": landscape.gradient_curvature,
        "member_std": landscape.member_std(v["sigma"]),
    }


_TINY, _SMALL = 1e-28, 0.1  # of x_k: where the evaluator's corrections are below rounding, and where they are not

_a = trace + 2 * (N - 1) * (N - 2) / (N * (N + 1)) * sigma**4 * CUBE.symbol / S**2
_gain = (
    *C_STEPS,
    define(big_a, _a, "sum lam_k (1 + coefficient x_k), x_k = sigma^4 lam_k^2 / S^2 (quadratic-noise)."),
    define(FIRST_ORDER.symbol, g * alpha * c * sigma * g / S, "progress times ||g||, with rho = sigma ||g|| / S."),
    define(
        SECOND_ORDER.symbol,
        alpha**2 / N * (big_a + (N - 2) * sigma**2 * along / S**2),
        "Along eigendirection k: alpha^2/N (1 + noise of curvature + (N-2) rho_k^2), rho_k = sigma g_k / S "
        "(step-norm-square), times lam_k.",
    ),
    define(GAIN.symbol, FIRST_ORDER.symbol - SECOND_ORDER.symbol / 2, "Taylor, complete on a quadratic."),
)
_GAIN_SYMBOLS = (ALPHA, SIGMA, POPULATION, MEMBER_STD, GRADIENT, TRACE, CUBE, ALONG, NOISE_CURVATURE, C_OF_N)

quadratic_gain = Derivation(
    name="quadratic-gain",
    title="Expected gain of one z-scored step on a quadratic reward",
    assumptions=(QUADRATIC, LEADING),
    label="large-N",
    source=OURS,
    symbols=(*_GAIN_SYMBOLS, FIRST_ORDER, SECOND_ORDER, GAIN),
    steps=(
        *_gain,
        follows(
            GAIN.symbol,
            alpha * c * sigma * g**2 / S - alpha**2 / (2 * N) * (_a + (N - 2) * sigma**2 * along / S**2),
            "Signal, minus what noise and signal lose to curvature.",
        ),
    ),
    evaluator=Evaluator(
        name="estheory.theory.curved.step.expected_gain",
        call=lambda v: theory.expected_gain(_config(v), _landscape(v, _noise(v, _TINY))),
        rtol=1e-10,  # the two parts of the gain nearly cancel at some of the numbers drawn
        parameters=_PARAMETERS,
        inputs=lambda v: _inputs(v, _TINY),
    ),
)

_slope = FIRST_ORDER.symbol / alpha
_bend = SECOND_ORDER.symbol / alpha**2
_best_steps = (
    *_gain,
    define(BEST.symbol, _slope / _bend, "The gain is a parabola in alpha, slope times alpha minus bend alpha^2 / 2."),
    define(BEST_GAIN.symbol, _slope**2 / (2 * _bend), "Its value there."),
    follows(
        BEST_GAIN.symbol,
        GAIN.symbol + _bend / 2 * (alpha - BEST.symbol) ** 2,
        "Every other step gains less, by the square of its distance.",
    ),
)

optimal_alpha = Derivation(
    name="optimal-alpha",
    title="Step size of the largest expected gain",
    assumptions=(QUADRATIC, LEADING),
    label="large-N",
    source=OURS,
    symbols=(*_GAIN_SYMBOLS, FIRST_ORDER, SECOND_ORDER, GAIN, BEST, BEST_GAIN),
    steps=(
        *_best_steps,
        follows(
            BEST.symbol,
            N * c * sigma * (g**2 / S) / (_a + (N - 2) * sigma**2 * along / S**2),
            "Grows like N until the signal's own curvature limits it.",
        ),
    ),
    evaluator=Evaluator(
        name="estheory.theory.curved.step.optimal_alpha",
        call=lambda v: theory.optimal_alpha(_config(v), _landscape(v, _noise(v, _TINY))),
        parameters=_PARAMETERS,
        inputs=lambda v: _inputs(v, _TINY),
    ),
)

critical_population = Derivation(
    name="critical-population",
    title="Critical population: where more members stop paying",
    assumptions=(QUADRATIC, LEADING),
    label="large-N",
    source=OURS,
    symbols=(*_GAIN_SYMBOLS, FIRST_ORDER, SECOND_ORDER, GAIN, BEST, BEST_GAIN, SATURATED, CRITICAL),
    steps=(
        *_best_steps,
        define(
            SATURATED.symbol,
            g**4 / (2 * along),
            "With c = 1 and N beyond A S^2/(sigma^2 g'Lam g) the best gain is that of the best gradient step.",
        ),
        define(
            CRITICAL.symbol,
            c**2 * N * SATURATED.symbol / BEST_GAIN.symbol - (N - 2),
            "So G*/G_inf = c^2 N/(N - 2 + N_crit).",
        ),
        follows(
            CRITICAL.symbol,
            _a * S**2 / (sigma**2 * along),
            "Noise curvature over signal curvature; tr Lam ||g||^2 / g'Lam g for rho = 1 and small x_k.",
        ),
    ),
    evaluator=Evaluator(
        name="estheory.theory.curved.step.critical_population",
        call=lambda v: theory.critical_population(_config(v), _landscape(v, _noise(v, _TINY))),
        parameters=_PARAMETERS,
        inputs=lambda v: _inputs(v, _TINY),
    ),
)

GAP = named("δ", r"\delta", "reward of the centre minus the mean of the population's", "reward")
smoothing_gap = Derivation(
    name="smoothing-gap",
    title="Gap between the centre's reward and the population's mean",
    assumptions=("quadratic reward", "Gaussian perturbations"),
    label="exact",
    source=OURS,
    symbols=(SIGMA, TRACE, GAP),
    steps=(
        define(
            GAP.symbol,
            half * sigma**2 * trace * gaussian_mean(x**2),
            "Mean of -g.(sigma eps) + 1/2 sigma^2 eps' Lam eps; the first-order part has none.",
        ),
        agrees(GAP.symbol, half * sigma**2 * trace, "A forward-only measurement of tr Lam."),
    ),
    evaluator=Evaluator(
        name="estheory.theory.curved.step.smoothing_gap",
        call=lambda v: theory.smoothing_gap(
            v["sigma"], _landscape({"first_eigenvalue": v["trace"], "second_eigenvalue": 0.0, "others": 1}, 0.0)
        ),
    ),
)

DERIVATIONS = (
    quadratic_gain,
    optimal_alpha,
    critical_population,
    smoothing_gap,
)
