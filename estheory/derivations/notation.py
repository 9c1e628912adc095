"""The symbols that derivations share: one meaning, unit and argument name each."""

from __future__ import annotations

from typing import Any

from estheory.derivations.algebra import Expr, sp
from estheory.derivations.derivation import Notation, Step, agrees, define


def given(name: str, latex: str, argument: str, meaning: str, unit: str = "1", **ranges: Any) -> Notation:
    """Return an input: a positive symbol, whole if its ``typical`` range is of ints."""
    whole = all(isinstance(end, int) for end in ranges.get("typical", (0.0,)))
    symbol = sp.Symbol(name, positive=True, integer=True) if whole else sp.Symbol(name, positive=True)
    return Notation(symbol=symbol, latex=latex, argument=argument, meaning=meaning, unit=unit, **ranges)


def named(name: str, latex: str, meaning: str, unit: str = "1") -> Notation:
    """Return a symbol that a step defines or that the last step is the value of."""
    return Notation(symbol=sp.Symbol(name, positive=True), latex=latex, meaning=meaning, unit=unit)


POPULATION = given(
    "N", "N", "population", "population: members evaluated per step", typical=(3, 12), extreme=(2, 10**6)
)
DIM = given("d", "d", "dim", "number of trainable parameters", typical=(2, 20), extreme=(2, 10**12))
STEPS = given("T", "T", "steps", "steps", typical=(1, 9), extreme=(1, 10**6))
ALPHA = given("alpha", r"\alpha", "alpha", "step size", "weight", extreme=(1e-7, 10.0))
SIGMA = given("sigma", r"\sigma", "sigma", "perturbation scale", "weight", extreme=(1e-6, 10.0))
RHO = given(
    "rho",
    r"\rho",
    "correlation",
    "correlation of a member's reward with its linear signal; its square is the reliability",
    typical=(0.1, 0.9),
    extreme=(1e-9, 1.0),
)
MEMBER_STD = given("S", "S", "member_std", "standard deviation of a member's reward", "reward")
REWARD_STD = given("s", "s", "reward_std", "reward noise of a member, all but its perturbation", "reward")
GRADIENT = given("g", r"\lVert g\rVert", "gradient_norm", "norm of the reward's gradient", "reward/weight")
EIGENVALUE = given("lambda", r"\lambda", "eigenvalue", "curvature of a direction", "reward/weight^2")
VARIANCE = given("v", "v", "variance", "variance of one coordinate of the displacement", "weight^2")

N: Expr = POPULATION.symbol
D: Expr = DIM.symbol
T: Expr = STEPS.symbol
alpha: Expr = ALPHA.symbol
sigma: Expr = SIGMA.symbol
rho: Expr = RHO.symbol
S: Expr = MEMBER_STD.symbol

x: Expr = sp.Symbol("x", real=True)
y: Expr = sp.Symbol("y", positive=True)
half: Expr = sp.Rational(1, 2)

C_OF_N = named("c", "c", "c(N), the mean population standard deviation of N standard normals")
c: Expr = C_OF_N.symbol
c_of_n: Expr = sp.sqrt(2 / N) * sp.gamma(N / 2) / sp.gamma((N - 1) / 2)


def normal_density(z: Expr) -> Expr:
    """Return the density of a standard normal."""
    return sp.exp(-(z**2) / 2) / sp.sqrt(2 * sp.pi)


def gaussian_mean(expression: Expr, z: Expr = x) -> Expr:
    """Return the unevaluated expectation of an expression over a standard normal."""
    return sp.Integral(expression * normal_density(z), (z, -sp.oo, sp.oo))


def chi_square_mean(expression: Expr, df: Expr) -> Expr:
    """Return the unevaluated expectation of an expression over a chi-square variable."""
    density = y ** (df / 2 - 1) * sp.exp(-y / 2) / (2 ** (df / 2) * sp.gamma(df / 2))
    return sp.Integral(expression * density, (y, 0, sp.oo))


def beta_mean(expression: Expr, a: Expr, b: Expr) -> Expr:
    """Return the unevaluated expectation of an expression over a Beta(a, b) variable y = sin^2(theta)."""
    angle = sp.Symbol("theta", positive=True)
    density = 2 * sp.sin(angle) ** (2 * a - 1) * sp.cos(angle) ** (2 * b - 1)
    scale = sp.gamma(a + b) / (sp.gamma(a) * sp.gamma(b))
    return sp.Integral(expression.subs(y, sp.sin(angle) ** 2) * density * scale, (angle, 0, sp.pi / 2))


C_STEPS: tuple[Step, Step] = (
    define(c, c_of_n, "c-of-n: the mean population standard deviation of N standard normals."),
    agrees(c, chi_square_mean(sp.sqrt(y / N), N - 1), "N std^2 is chi-square with N-1 degrees of freedom."),
)
"""What every derivation that uses c(N) brings with it."""
