"""What storing weights in a narrow format does to the walk (docs/concepts/precision.md).

Adding a Gaussian update to a weight on the grid of its format moves it by a whole number of grid spacings. The factors
on the second moment and on the projection depend only on the update's size over the spacing, so a model enters through
the histogram of its weights' magnitudes. What has no closed form (restoring in place, anchors) is emulated:
:mod:`estheory.simulation.emulator.emulate`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from estheory._special import Array, legendre_nodes, normal_tails
from estheory.errors import ConfigError
from estheory.floats import FORMATS, FloatFormat
from estheory.landscape import Signal
from estheory.rules import ESConfig
from estheory.theory.estimators import estimator_of
from estheory.theory.rounding.gains import fourth_gains, signal_gains, variance_gains
from estheory.theory.rounding.weights import WeightHistogram, weight_family


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
    spread
        Relative standard deviation of ``variance`` over runs: coefficients differ, and what rounding swallows with
        them. 0 for closed forms of steps that are added at once.
    scatter
        Relative variance of ||moved||^2 over noise, given the coefficients, times the number of weights; 2 for
        Gaussian entries of one variance.
    unevenness
        Mean square over squared mean of the weights' variances: 1 where all move alike, and where it is emulated. The
        number of weights over it is the effective number of coordinates of a cosine.
    """

    variance: float
    signal: float
    variance_stderr: float = 0.0
    signal_stderr: float = 0.0
    spread: float = 0.0
    scatter: float = 2.0
    unevenness: float = 1.0

    @property
    def swallowed(self) -> float:
        """Share of the intended update that rounding swallows: 1 - signal, at least 0."""
        return max(0.0, 1.0 - self.signal)

    @property
    def cosine(self) -> float:
        """Cosine between the walk and the intended walk; 0 where nothing moves."""
        return self.signal / math.sqrt(self.variance) if self.variance > 0 else 0.0


def rounding_effects(config: ESConfig, weights: WeightHistogram, steps: Iterable[int]) -> Mapping[int, RoundingEffect]:
    """Return what rounding does to the walk up to each of ``steps``.

    ``accumulated`` sums the step in float32 and adds once, E_w gain(alpha / (sqrt(N) u(w))); ``sequential`` adds
    alpha z_i eps_i / N member by member, E_w E_z[z^2 gain(alpha |z| / (N u(w)))] with z^2/(N-1) ~ Beta(1/2, (N-2)/2),
    the law of a z-score of Gaussian rewards.

    Over many steps weights change binade as they diffuse. Each cell of the histogram is followed with a Gaussian
    closure, w_t ~ N(w_0, v_t): v_{t+1} = v_t + tau^2 sum_b P(w_t in binade b) gain_b, tau^2 the plain variance of a
    step.

    Parameters
    ----------
    config
        The run; dtype, update path, alpha, population and shaping enter.
    weights
        Magnitudes of the weights at the start, weight units.
    steps
        Numbers of steps, at least 1 each.

    Returns
    -------
    dict
        Effects by step.

    Raises
    ------
    ConfigError
        For float32, and for what has no closed form (see :func:`has_closed_form`).

    Notes
    -----
    Label: mean-field; exact for one step from weights on the grid, but for additions that cross into the next binade.
    Source: ours: docs/concepts/precision.md. Flat directions.

    Examples
    --------
    >>> from estheory import ESConfig
    >>> from estheory.theory.rounding.weights import normal_weights
    >>> run = ESConfig(dim=10**9, sigma=0.0015, population=30, dtype="bfloat16", update_path="sequential")
    >>> effect = rounding_effects(run, normal_weights(0.02), [1])[1]
    >>> round(effect.variance, 3), round(effect.swallowed, 3)
    (0.922, 0.253)
    """
    fmt = storage_format(config)
    if not has_closed_form(config):
        raise ConfigError("rounding has no closed form for this run", "emulate it: estheory.simulation.emulator")
    plain = estimator_of(config).variance(Signal()).value
    looked = sorted(set(steps))
    step = math.sqrt(plain)
    first = math.floor(math.log2(step)) - 5  # in smaller binades rounding of this step is next to nothing
    last = max(first, math.floor(math.log2(float(weights.magnitudes.max()) + 8 * step * math.sqrt(looked[-1]))))
    binades = np.arange(first, last + 1, dtype=np.float64)
    spacing = fmt.spacing(binades)
    gains = _binade_gains(config, step, spacing) * np.array([[plain], [plain], [plain**2]])
    scatter = plain**2 * _coefficient_scatter(config, spacing)
    return dict(_follow(_coarse(weights, 2.0**first), binades, gains, scatter, plain, looked))


def _coarse(weights: WeightHistogram, floor: float) -> WeightHistogram:
    """Return the histogram in sixteenths of a binade, magnitudes below ``floor`` taken together."""
    mantissa, exponent = np.frexp(np.maximum(weights.magnitudes, floor))
    _, cell = np.unique(exponent * 16 + np.floor((2 * mantissa - 1) * 16), return_inverse=True)
    shares = np.bincount(cell, weights.shares)
    magnitudes = np.bincount(cell, np.maximum(weights.magnitudes, floor)) / np.bincount(cell)
    return WeightHistogram(magnitudes, np.asarray(shares, dtype=np.float64))


def _follow(
    weights: WeightHistogram, binades: Array, gains: Array, scatter: Array, plain: float, steps: list[int]
) -> Iterable[tuple[int, RoundingEffect]]:
    """Follow each cell's variance, projection and fourth cumulant; each binade adds its ``gains``, (3, m), a step.

    ``scatter``, (m, m), is the covariance of what two binades add, over the coefficients of a step.
    """
    edges = 2.0 ** np.append(binades, binades[-1] + 1)
    edges[0] = 0.0
    w = weights.magnitudes[:, None]
    variance, kept, excess = np.zeros((3, len(w)))
    done, common = 0, 0.0
    for step in steps:
        while done < step:
            ahead = min(step - done, max(1, done // 12))  # steps taken together once a step hardly changes the spread
            if done == 0:
                share = (weights.exponents[:, None] == binades).astype(np.float64)
            else:
                std = np.sqrt(np.maximum(variance, 1e-300))[:, None]
                below = normal_tails((edges - w) / std)[0] - normal_tails((-edges - w) / std)[0]
                share = np.diff(below, axis=1)
            variance, kept, excess = (
                before + ahead * (share @ gain) for before, gain in zip((variance, kept, excess), gains, strict=True)
            )
            everywhere = weights.shares @ share
            common += ahead * float(everywhere @ scatter @ everywhere)
            done += ahead
        mean = float(weights.shares @ variance)
        uneven = float(weights.shares @ variance**2) / mean**2 if mean else 1.0
        yield (
            step,
            RoundingEffect(
                variance=mean / (plain * step),
                signal=float(weights.shares @ kept) / (plain * step),
                spread=math.sqrt(max(common, 0.0)) / mean if mean else 0.0,
                scatter=2 * uneven + float(weights.shares @ excess) / mean**2 if mean else 2.0,
                unevenness=uneven,
            ),
        )


def _binade_gains(config: ESConfig, step: float, spacing: Array) -> Array:
    """Return variance, projection and fourth cumulant of one step in binades of these spacings, shape (3, m).

    In units of the variance of the step, whose standard deviation is ``step``, and of its square.
    """
    n, alpha = config.population, config.step_size
    if config.update_path == "accumulated":
        x = step / spacing
        return np.stack([variance_gains(x), signal_gains(x), fourth_gains(x) - 3 * variance_gains(x) ** 2])
    z, density = _score_nodes(n)
    x = alpha * z / n / spacing[:, None]
    fourth = fourth_gains(x) - 3 * variance_gains(x) ** 2
    return np.stack(
        [variance_gains(x) @ (density * z**2), signal_gains(x) @ (density * z**2), fourth @ (density * z**4) / n]
    )


def _score_nodes(population: int) -> tuple[Array, Array]:
    """Return nodes and weights of the size of one z-score of Gaussian rewards."""
    nodes, quadrature = legendre_nodes()
    angle = 0.25 * math.pi * (nodes + 1)  # z = sqrt(N-1) cos(angle), density sin^(N-3)
    density = quadrature * np.sin(angle) ** (population - 3)
    return math.sqrt(population - 1) * np.cos(angle), density / density.sum()


def _coefficient_scatter(config: ESConfig, spacing: Array) -> Array:
    """Return the covariance over z-scores of the variances that binades of these spacings add, shape (m, m).

    In units of the square of the step's variance. (1/N) sum_i z_i^2 gain(z_i) scatters as 1/N of what of z^2 gain(z) is
    not proportional to z^2, whose sum over the members is fixed. 0 where a step is added at once.
    """
    if config.update_path == "accumulated":
        return np.zeros((spacing.size, spacing.size))
    z, density = _score_nodes(config.population)
    square = variance_gains(config.step_size * z / config.population / spacing[:, None]) * z**2
    apart = z**2 - 1
    square = square - (square @ density)[:, None]
    rest = square - ((square * apart) @ density / (apart**2 @ density))[:, None] * apart
    return np.asarray((rest * density) @ rest.T / config.population)


def storage_format(config: ESConfig) -> FloatFormat:
    """Return the format in which a run stores its weights.

    Parameters
    ----------
    config
        The run.

    Returns
    -------
    FloatFormat
        bfloat16 or float16.

    Raises
    ------
    ConfigError
        For float32, which has no rounding here.
    """
    if config.dtype == "float32":
        raise ConfigError("precision_gain is for bfloat16 and float16", "set --dtype, or leave the weights out")
    return FORMATS[config.dtype]


def has_closed_form(config: ESConfig) -> bool:
    """Return whether rounding of a run has a closed form.

    Parameters
    ----------
    config
        The run.

    Returns
    -------
    bool
        True without restore pairs, anchor and momentum, for z-scores and centred ranks; member by member for z-scores
        of independent members alone.
    """
    if config.restore_pairs or config.anchor_l1 or config.anchor_l2 or config.momentum:
        return False
    estimator = estimator_of(config)
    if not estimator.scale_free:
        return False
    return config.update_path == "accumulated" or (estimator.independent_zscores and config.population >= 3)


@dataclass(frozen=True, kw_only=True)
class NormBand:
    """Smallest and largest factor of rounding on norms over a family of weights.

    Attributes
    ----------
    low, high
        Both factors, > 0.
    """

    low: float
    high: float

    @staticmethod
    def over(variances: Iterable[float]) -> NormBand:
        """Return the band of norms from factors on the variance.

        Parameters
        ----------
        variances
            The factors, of any number of models.

        Returns
        -------
        NormBand
            Their smallest and largest square root.
        """
        norms = [math.sqrt(v) for v in variances]
        return NormBand(low=min(norms), high=max(norms))

    @property
    def half_width(self) -> float:
        """The symmetric relative half-width about the plain law that holds it."""
        return max(1 - self.low, self.high - 1, 0.0)


def unknown_weights_band(config: ESConfig, steps: Iterable[int]) -> dict[int, NormBand]:
    """Return what rounding does to norms over :func:`estheory.theory.rounding.weights.weight_family`.

    Parameters
    ----------
    config
        The run.
    steps
        Numbers of steps.

    Returns
    -------
    dict
        Bands by step.

    Raises
    ------
    ConfigError
        As :func:`rounding_effects`.

    Notes
    -----
    Label: mean-field. Source: ours: docs/concepts/precision.md. By the closed forms, for the declared family.
    """
    steps = sorted(set(steps))
    effects = [rounding_effects(config, weights, steps) for weights in weight_family().values()]
    return {step: NormBand.over(effect[step].variance for effect in effects) for step in steps}


SWALLOWED_WARNING = 0.1
"""Share of the intended update from which losing it is worth a warning."""


def swallowed_warning(effect: RoundingEffect, dtype: str) -> str | None:
    """Return a warning with remedies where rounding swallows more than 10 % of the update.

    Parameters
    ----------
    effect
        What rounding does.
    dtype
        Name of the format, for the message.

    Returns
    -------
    str or None
        None where it swallows less.
    """
    if effect.swallowed <= SWALLOWED_WARNING:
        return None
    return (
        f"{dtype} swallows {effect.swallowed:.0%} of the intended update (cosine with the intended walk "
        f"{effect.cosine:.2f}): keep a float32 master copy, or make the steps larger against the weights' spacing "
        f"(larger alpha, fewer members added one by one, --update-path accumulated), or round stochastically"
    )
