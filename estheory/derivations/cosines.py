"""Mean cosine of one step with the gradient."""

from __future__ import annotations

from estheory.derivations.algebra import Expr, sp
from estheory.derivations.derivation import Derivation, Evaluator, Values, agrees, define
from estheory.derivations.notation import DIM, POPULATION, D, N, beta_mean, given, half, named, y
from estheory.rules import ESConfig, Shaping
from estheory.theory import signal as theory

OURS = theory.OURS
COSINE = named("E cos", r"\mathbb{E}\cos", "mean cosine of one step with the gradient")
DIRECTIONS = given(
    "N", "N", "population", "directions, each evaluated at both signs", typical=(3, 12), extreme=(2, 10**6)
)
MEMBERS = given("N", "N", "population", POPULATION.meaning, typical=(3, 12), extreme=(2, 10**6))
# the evaluator is three nested quadratures of 40 nodes: at d < 10 and N < 10 good to 1e-6 only
SPACE = given("d", "d", "dim", DIM.meaning, typical=(2, 20), extreme=(1000, 10**12))


def _cosine(v: Values, shaping: Shaping) -> float:
    config = ESConfig(dim=int(v["dim"]), sigma=1.0, population=int(v["population"]), shaping=shaping)
    return theory.gradient_cosine(config, 1.0).mean


def _gammas(a: Expr, b: Expr) -> Expr:
    """Return E sqrt(y) of a Beta(a, b) variable y."""
    return sp.gamma(a + half) * sp.gamma(a + b) / (sp.gamma(a) * sp.gamma(a + b + half))


mean_cosine = Derivation(
    name="mean-cosine",
    title="Mean cosine of one z-scored step with the gradient, noiseless linear reward",
    assumptions=("linear reward without noise: rho = 1",),
    label="exact",
    source=OURS,
    symbols=(MEMBERS, SPACE, COSINE),
    steps=(
        define(
            COSINE.symbol,
            beta_mean(sp.sqrt(y), (N - 1) / 2, (D - 1) / 2),
            "cos^2 = chi^2_{N-1} / (chi^2_{N-1} + chi^2_{d-1}): centring costs one of N members, the rest of the step "
            "is flat.",
        ),
        agrees(
            COSINE.symbol,
            _gammas((N - 1) / 2, (D - 1) / 2),
            "A Beta integral; about c(N) sqrt(N/d) at large d.",
        ),
    ),
    evaluator=Evaluator(name="estheory.theory.signal.gradient_cosine", call=lambda v: _cosine(v, "zscore")),
)

two_point_cosine = Derivation(
    name="mean-cosine-two-point",
    title="Mean cosine with the gradient of one step of uncentred two-point estimates, noiseless linear reward",
    assumptions=("linear reward without noise", "N directions, each with (R+ - R-)/(2 sigma), not centred"),
    label="exact",
    source=OURS,
    symbols=(DIRECTIONS, SPACE, COSINE),
    steps=(
        define(
            COSINE.symbol,
            beta_mean(sp.sqrt(y), N / 2, (D - 1) / 2),
            "cos^2 = chi^2_N / (chi^2_N + chi^2_{d-1}): no centring, no degree of freedom lost.",
        ),
        agrees(COSINE.symbol, _gammas(N / 2, (D - 1) / 2), "A Beta integral; about sqrt(N/d) at large d."),
    ),
    evaluator=Evaluator(name="estheory.theory.signal.gradient_cosine", call=lambda v: _cosine(v, "two-point")),
)

DERIVATIONS = (mean_cosine, two_point_cosine)
