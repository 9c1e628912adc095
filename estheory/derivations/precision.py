"""Rounding of updates to the grid of a storage format."""

from __future__ import annotations

from estheory.citations import ours
from estheory.derivations.algebra import Expr, sp
from estheory.derivations.derivation import Derivation, Evaluator, agrees, define
from estheory.derivations.notation import given, half, named, normal_density
from estheory.theory.rounding import gains as theory

SIZE = given(
    "x",
    "x",
    "update_in_spacings",
    "standard deviation of the update over the spacing of the grid",
    typical=(0.2, 2.0),
    extreme=(0.05, 100.0),
)
GAIN = named("G", "G", "second moment of the rounded update over that of the update")
KEPT = named("K", "K", "mean product of the rounded update with the update, over the update's second moment")
PRODUCT = named(
    "E kz", r"\mathbb{E}kz", "mean product of the move, in spacings, with the standard normal of the update"
)
MOMENT = named("E k²", r"\mathbb{E}k^2", "mean square of the move, in spacings")
size, k, z = SIZE.symbol, sp.Symbol("k", integer=True, positive=True), sp.Symbol("z", real=True)


def _tail(edge: Expr) -> Expr:
    """Return the probability that a normal update of standard deviation x exceeds ``edge``."""
    return sp.erfc(edge / (sp.sqrt(2) * size)) / 2


rounding_gain = Derivation(
    name="rounding-gain",
    title="What round-to-nearest does to the variance of a Gaussian update",
    assumptions=(
        "the weight lies on the grid of its format (bfloat16, float16) and stays in its binade",
        "the update is Gaussian and added once, rounding to nearest",
    ),
    label="exact",
    source=ours("precision"),
    symbols=(SIZE, MOMENT, GAIN),
    steps=(
        define(
            MOMENT.symbol,
            sp.Sum(k**2 * 2 * (_tail(k - half) - _tail(k + half)), (k, 1, sp.oo)),
            "The weight moves by k spacings when the update lies within half a spacing of k; both signs.",
        ),
        agrees(
            MOMENT.symbol,
            sp.Sum(2 * (2 * k - 1) * _tail(k - half), (k, 1, sp.oo)),
            "Summation by parts: k^2 - (k-1)^2 = 2k - 1.",
        ),
        define(GAIN.symbol, MOMENT.symbol / size**2, "Over the update's own second moment."),
        agrees(
            GAIN.symbol,
            sp.Sum(2 * (2 * k - 1) * _tail(k - half), (k, 1, sp.oo)) / size**2,
            "0 far below x = 0.2 (updates are lost), 1.30 at one half, 1 + 1/(12 x^2) far above.",
        ),
    ),
    evaluator=Evaluator(
        name="estheory.theory.rounding.gains.rounding_gain",
        call=lambda v: theory.rounding_gain(v["update_in_spacings"]),
    ),
)

_between = sp.Integral(z * normal_density(z), (z, (k - half) / size, (k + half) / size))

rounding_signal = Derivation(
    name="rounding-signal",
    title="What round-to-nearest keeps of a Gaussian update on average",
    assumptions=rounding_gain.assumptions,
    label="exact",
    source=ours("precision"),
    symbols=(SIZE, PRODUCT, KEPT),
    steps=(
        define(
            PRODUCT.symbol,
            sp.Sum(2 * k * _between, (k, 1, sp.oo)),
            "The weight moves by k spacings when x z lies within half a spacing of k; both signs.",
        ),
        agrees(
            PRODUCT.symbol,
            sp.Sum(2 * k * (normal_density((k - half) / size) - normal_density((k + half) / size)), (k, 1, sp.oo)),
            "The density of a standard normal is minus the integral of z times it.",
        ),
        agrees(
            PRODUCT.symbol,
            sp.Sum(2 * normal_density((k - half) / size), (k, 1, sp.oo)),
            "Summation by parts: each threshold (k - 1/2)/x counts k - (k-1) = 1, on both sides.",
        ),
        define(KEPT.symbol, PRODUCT.symbol / size, "x E[kz] over x^2, the update's own second moment."),
        agrees(
            KEPT.symbol,
            sp.Sum(2 * normal_density((k - half) / size), (k, 1, sp.oo)) / size,
            "The density at the thresholds times their distance 1/x: the midpoint rule of an integral that is 1.",
        ),
    ),
    evaluator=Evaluator(
        name="estheory.theory.rounding.gains.signal_gain", call=lambda v: theory.signal_gain(v["update_in_spacings"])
    ),
)

DERIVATIONS = (rounding_gain, rounding_signal)
