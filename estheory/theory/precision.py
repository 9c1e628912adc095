"""What storing weights in a narrow format does to the walk (docs/concepts/precision.md).

Adding a Gaussian update to a weight on the grid of its format moves it by a whole number of grid spacings. The factors
on the second moment and on the projection depend only on the update's size over the spacing, so a model enters through
the histogram of its weights' magnitudes. What has no closed form (restoring in place, anchors) is emulated:
:mod:`estheory.simulation.rounding`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from estheory._special import Array, legendre_nodes, normal_tails
from estheory.errors import ConfigError
from estheory.floats import FORMATS, FloatFormat
from estheory.rules import ESConfig, require_positive

SUBCELLS = 2048
"""Cells of a law's histogram per binade: two for each value of float16 there, so that cells rounded to any format here
give its values their own shares. With restore pairs ties to even make odd and even values differ."""


@dataclass(frozen=True)
class WeightHistogram:
    """How large a model's weights are: representative ``magnitudes`` |w|, and their ``shares``, sum 1, both (m,)."""

    magnitudes: Array
    shares: Array

    @property
    def exponents(self) -> Array:
        """The binade of each cell, floor(log2 |w|), shape (m,)."""
        return np.frexp(self.magnitudes)[1].astype(np.float64) - 1


@dataclass(frozen=True, kw_only=True)
class RoundingEffect:
    """What rounding does to a walk up to one step.

    Attributes
    ----------
    variance
        Factor on the variance of the walk: E[moved^2] / E[intended^2], the ``precision_gain``.
    signal
        Retained projection on the intended walk, E[moved intended] / E[intended^2]. It is the factor on everything
        that is linear in the update: progress along a gradient is multiplied by it.
    variance_stderr, signal_stderr
        Their standard errors where they were emulated; 0 for closed forms.
    """

    variance: float
    signal: float
    variance_stderr: float = 0.0
    signal_stderr: float = 0.0

    @property
    def swallowed(self) -> float:
        """Share of the intended update that rounding swallows: 1 - signal, at least 0."""
        return max(0.0, 1.0 - self.signal)

    @property
    def cosine(self) -> float:
        """Cosine between the walk and the intended walk; 0 where nothing moves."""
        return self.signal / math.sqrt(self.variance) if self.variance > 0 else 0.0


def weight_histogram(tail: Callable[[Array], Array], top: float) -> WeightHistogram:
    """Return the histogram of a symmetric law of weights.

    Parameters
    ----------
    tail
        P(|w| > x) for an array x, same shape.
    top
        A magnitude that next to no weight exceeds; 30 binades below it are resolved.
    """
    last = math.ceil(math.log2(top))
    edges = 2.0 ** np.arange(last - 30, last, dtype=np.float64)
    edges = (edges[:, None] * (1 + np.arange(SUBCELLS) / SUBCELLS)).ravel()
    edges = np.append(edges, 2.0**last)
    outside = tail(edges)
    shares = outside[:-1] - outside[1:]
    kept = shares > 0
    return WeightHistogram((0.5 * (edges[:-1] + edges[1:]))[kept], shares[kept] / shares.sum())


def normal_weights(std: float) -> WeightHistogram:
    """Return the histogram of weights w ~ N(0, std^2). Exact up to the width of its cells."""
    require_positive("weight-std", std)
    return weight_histogram(lambda x: 2 * normal_tails(x / std)[1], 9 * std)


def student_weights(rms: float, df: float) -> WeightHistogram:
    """Return the histogram of Student-t weights of root mean square ``rms``, ``df`` > 2 degrees of freedom."""
    from scipy.special import stdtr

    require_positive("rms", rms)
    scale = rms * math.sqrt((df - 2) / df)
    return weight_histogram(
        lambda x: np.asarray(2 * stdtr(df, -x / scale), dtype=np.float64), scale * 1e-12 ** (-1 / df)
    )


def mixed_weights(parts: Iterable[tuple[float, WeightHistogram]]) -> WeightHistogram:
    """Return a mixture of histograms from (share, histogram): modules of different scale.

    The shares of ``parts`` need not sum to 1.
    """
    parts = list(parts)
    total = sum(share for share, _ in parts)
    return WeightHistogram(
        np.concatenate([h.magnitudes for _, h in parts]),
        np.concatenate([share / total * h.shares for share, h in parts]),
    )


def variance_gains(x: Array) -> Array:
    """Return E[round(x Z)^2] / x^2 for a standard normal Z, for updates of ``x`` > 0 grid spacings, shape of ``x``.

    (1/x^2) sum_{k>=1} 2 (2k-1) Q((k - 1/2)/x), and 1 + 1/(12 x^2) from x = 3 on, where they agree to 1e-15. Exact.
    """
    x = np.asarray(x, dtype=np.float64)
    k = np.arange(1, 31)
    near = np.minimum(x, 3.0)[..., None]
    total = (2 * (2 * k - 1) * normal_tails((k - 0.5) / near)[1]).sum(axis=-1)
    return np.where(x >= 3.0, 1 + 1 / (12 * x * x), total / near[..., 0] ** 2)


def signal_gains(x: Array) -> Array:
    """Return E[x Z round(x Z)] / x^2, the share of the update that is kept on average, shape of ``x``. Exact.

    (2/x) sum_{k>=1} phi((k - 1/2)/x), by parts; 1 to 1e-15 from x = 3 on (it is 1 - 2 exp(-2 pi^2 x^2) + ...).
    """
    x = np.asarray(x, dtype=np.float64)
    k = np.arange(1, 31)
    near = np.minimum(x, 3.0)[..., None]
    total = np.exp(-0.5 * ((k - 0.5) / near) ** 2).sum(axis=-1) / math.sqrt(2 * math.pi)
    return np.where(x >= 3.0, 1.0, 2 * total / near[..., 0])


def unchanged_shares(x: Array) -> Array:
    """Return P(round(x Z) = 0): how often one addition leaves the stored weight as it was, shape of ``x``. Exact."""
    return np.asarray(1 - 2 * normal_tails(0.5 / np.asarray(x, dtype=np.float64))[1])


def rounding_gain(x: float) -> float:
    """Return :func:`variance_gains` of one number.

    Examples
    --------
    >>> [round(rounding_gain(x), 3) for x in (0.2, 0.5, 1.0)]
    [0.31, 1.302, 1.083]
    """
    return float(variance_gains(np.array(x))) if x > 0 else 0.0


def signal_gain(x: float) -> float:
    """Return :func:`signal_gains` of one number.

    Examples
    --------
    >>> [round(signal_gain(x), 3) for x in (0.1, 0.2, 0.5)]
    [0.0, 0.175, 0.986]
    """
    return float(signal_gains(np.array(x))) if x > 0 else 0.0


def rounding_effects(config: ESConfig, weights: WeightHistogram, steps: Iterable[int]) -> Mapping[int, RoundingEffect]:
    """Return what rounding does to the walk up to each of ``steps``.

    One step is exact (from weights on the grid, neglecting additions that cross into the next binade):
    ``accumulated`` sums the step in float32 and adds once, E_w gain(alpha / (sqrt(N) u(w))); ``sequential`` adds
    alpha z_i eps_i / N member by member, E_w E_z[z^2 gain(alpha |z| / (N u(w)))] with z^2/(N-1) ~ Beta(1/2, (N-2)/2),
    the law of a z-score of Gaussian rewards.

    Over many steps weights change binade as they diffuse. Each cell of the histogram is followed with a Gaussian
    closure, w_t ~ N(w_0, v_t): v_{t+1} = v_t + tau^2 sum_b P(w_t in binade b) gain_b, tau^2 the plain variance of a
    step. Label mean-field.

    Returns
    -------
    dict
        Effects by step.

    Raises
    ------
    ConfigError
        For float32, and for what has no closed form (see :func:`has_closed_form`).
    """
    fmt = storage_format(config)
    if not has_closed_form(config):
        raise ConfigError("rounding has no closed form for this run", "emulate it (estheory.simulation.rounding)")
    plain = config.step_size**2 * _coefficient_variance(config)
    looked = sorted(set(steps))
    step = math.sqrt(plain)
    first = math.floor(math.log2(step)) - 5  # in smaller binades rounding of this step is next to nothing
    last = max(first, math.floor(math.log2(float(weights.magnitudes.max()) + 8 * step * math.sqrt(looked[-1]))))
    binades = np.arange(first, last + 1, dtype=np.float64)
    variance, signal = _binade_gains(config, fmt.spacing(binades))
    cells = _coarse(weights, 2.0**first)
    return dict(_follow(cells, binades, plain * variance, plain * signal, plain, looked))


def _coarse(weights: WeightHistogram, floor: float) -> WeightHistogram:
    """Return the histogram in sixteenths of a binade, magnitudes below ``floor`` taken together."""
    mantissa, exponent = np.frexp(np.maximum(weights.magnitudes, floor))
    _, cell = np.unique(exponent * 16 + np.floor((2 * mantissa - 1) * 16), return_inverse=True)
    shares = np.bincount(cell, weights.shares)
    magnitudes = np.bincount(cell, np.maximum(weights.magnitudes, floor)) / np.bincount(cell)
    return WeightHistogram(magnitudes, np.asarray(shares, dtype=np.float64))


def _follow(
    weights: WeightHistogram, binades: Array, variance: Array, signal: Array, plain: float, steps: list[int]
) -> Iterable[tuple[int, RoundingEffect]]:
    """Follow each cell's variance and projection; each binade adds ``variance`` and ``signal`` a step."""
    edges = 2.0 ** np.append(binades, binades[-1] + 1)
    edges[0] = 0.0
    w = weights.magnitudes[:, None]
    spread = np.zeros(len(w))
    kept = np.zeros(len(w))
    done = 0
    for step in steps:
        while done < step:
            ahead = min(step - done, max(1, done // 12))  # steps taken together once a step hardly changes the spread
            if done == 0:
                share = (weights.exponents[:, None] == binades).astype(np.float64)
            else:
                std = np.sqrt(np.maximum(spread, 1e-300))[:, None]
                below = normal_tails((edges - w) / std)[0] - normal_tails((-edges - w) / std)[0]
                share = np.diff(below, axis=1)
            spread = spread + ahead * (share @ variance)
            kept = kept + ahead * (share @ signal)
            done += ahead
        total = plain * step
        yield (
            step,
            RoundingEffect(
                variance=float(weights.shares @ spread) / total, signal=float(weights.shares @ kept) / total
            ),
        )


def _binade_gains(config: ESConfig, spacing: Array) -> tuple[Array, Array]:
    """Return the gains of one step in binades of these spacings, each shape (m,)."""
    n, alpha = config.population, config.step_size
    if config.update_path == "accumulated":
        x = alpha * math.sqrt(_coefficient_variance(config)) / spacing
        return variance_gains(x), signal_gains(x)
    nodes, quadrature = legendre_nodes()
    angle = 0.25 * math.pi * (nodes + 1)  # z = sqrt(N-1) cos(angle), density sin^(N-3)
    density = quadrature * np.sin(angle) ** (n - 3)
    density /= density.sum()
    z = math.sqrt(n - 1) * np.cos(angle)
    x = alpha * z / n / spacing[:, None]
    return variance_gains(x) @ (density * z**2), signal_gains(x) @ (density * z**2)


def _coefficient_variance(config: ESConfig) -> float:
    """Return the plain variance of a step over alpha^2."""
    n = config.population
    if config.shaping == "centered-rank":
        return (n + 1) / (12 * n * (n - 1))
    return 1 / (n - 1) if config.antithetic else 1 / n  # antithetic: members' rewards pure noise


def storage_format(config: ESConfig) -> FloatFormat:
    """Return the format in which a run stores its weights; ConfigError for float32."""
    if config.dtype == "float32":
        raise ConfigError("precision_gain is for bfloat16 and float16", "set --dtype, or leave the weights out")
    return FORMATS[config.dtype]


def has_closed_form(config: ESConfig) -> bool:
    """Return whether rounding of this run has a closed form: no restore pairs, anchor or momentum, plain z-scores."""
    if config.restore_pairs or config.anchor_l1 or config.anchor_l2 or config.momentum:
        return False
    if config.shaping not in ("zscore", "centered-rank"):
        return False
    return config.update_path == "accumulated" or (
        config.shaping == "zscore" and not config.antithetic and config.population >= 3
    )


FAMILY_RMS = (0.01, 0.02, 0.03, 0.05)
"""Root mean squares of the weights that stand for an unknown model (language models of billions of parameters)."""


def weight_family() -> dict[str, WeightHistogram]:
    """Return the weights that stand for an unknown model: scales times shapes, declared and not fitted.

    Normal; Student-t with 4 degrees of freedom; and a mixture of modules (half at half the rms, a third at the rms, a
    sixth at twice the rms, scaled to the rms).
    """
    family = {}
    for rms in FAMILY_RMS:
        parts = ((1 / 2, 0.5), (1 / 3, 1.0), (1 / 6, 2.0))
        unit = math.sqrt(sum(share * scale**2 for share, scale in parts))
        family[f"normal, rms {rms:g}"] = normal_weights(rms)
        family[f"Student-t 4, rms {rms:g}"] = student_weights(rms, 4)
        family[f"modules, rms {rms:g}"] = mixed_weights((p, normal_weights(rms * s / unit)) for p, s in parts)
    return family


@dataclass(frozen=True, kw_only=True)
class NormBand:
    """Smallest and largest factor of rounding on norms over a family of weights."""

    low: float
    high: float

    @staticmethod
    def over(variances: Iterable[float]) -> NormBand:
        """Return the band of norms from factors on the variance.

        ``variances`` are the factors, of any number of models.
        """
        norms = [math.sqrt(v) for v in variances]
        return NormBand(low=min(norms), high=max(norms))

    @property
    def half_width(self) -> float:
        """The symmetric relative half-width about the plain law that holds it."""
        return max(1 - self.low, self.high - 1, 0.0)


def unknown_weights_band(config: ESConfig, steps: Iterable[int]) -> dict[int, NormBand]:
    """Return by step what rounding does to norms over :func:`weight_family`, by the closed forms."""
    steps = sorted(set(steps))
    effects = [rounding_effects(config, weights, steps) for weights in weight_family().values()]
    return {step: NormBand.over(effect[step].variance for effect in effects) for step in steps}


SWALLOWED_WARNING = 0.1
"""Share of the intended update from which losing it is worth a warning."""


def swallowed_warning(effect: RoundingEffect, dtype: str) -> str | None:
    """Return a warning with remedies where rounding swallows more than 10 % of the update, else None."""
    if effect.swallowed <= SWALLOWED_WARNING:
        return None
    return (
        f"{dtype} swallows {effect.swallowed:.0%} of the intended update (cosine with the intended walk "
        f"{effect.cosine:.2f}): keep a float32 master copy, or make the steps larger against the weights' spacing "
        f"(larger alpha, fewer members added one by one, --update-path accumulated), or round stochastically"
    )
