"""The figures of docs/concepts: a law of each page, and Monte Carlo of what it is a law of.

``python docs/figures.py`` writes each of ``FIGURES`` beside its page. Laws are functions of `estheory.theory`
(verdicts: of `estheory.validation`), points are brute force, most of it by the engines of `estheory.simulation`.
Nothing is fitted, every seed is fixed, and ``tests/test_docs_figures.py`` fails where a point leaves its law, or a file
is not what is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from estheory._special import normal_quantile
from estheory.floats import FORMATS, rounded
from estheory.landscape import linear_signal
from estheory.laws import ChiLaw, NormalLaw
from estheory.quantities import Measurement, Prediction, Quantity
from estheory.reporting.page.figures import entry, legend, style
from estheory.reporting.page.svg import new_figure, standing, to_svg
from estheory.reporting.page.theme import LIGHT
from estheory.rules import ESConfig
from estheory.simulation.direct import DirectES
from estheory.simulation.engine import simulate
from estheory.simulation.gradient import Descent, NoisyGradient, gradient_descent
from estheory.simulation.named_rewards import sigmoid_reward
from estheory.simulation.presets import preset
from estheory.simulation.run_records import norms, ratio
from estheory.theory.adamw import Schedule, learning_rates, walk_factor
from estheory.theory.curved.dynamics import mean_field
from estheory.theory.curved.fluctuations import reward_spread
from estheory.theory.curved.spectra import flat_plus_isotropic, two_scale
from estheory.theory.curved.step import expected_gain, optimal_alpha
from estheory.theory.drift import kl_law
from estheory.theory.rounding.gains import rounding_gain, signal_gain
from estheory.theory.signal import gradient_cosine, progress_per_step
from estheory.theory.walk import walk
from estheory.validation.judge import REQUIRED_POWER, judge, refuting_power

if TYPE_CHECKING:
    from matplotlib.axis import Axis

Array = NDArray[np.float64]
SEED = 0
MARKERS = ("o", "s", "^", "D")


@dataclass(frozen=True, kw_only=True)
class Series:
    """A law and Monte Carlo of what it predicts.

    Attributes
    ----------
    label
        What the legend calls it.
    law
        Expected value at x.
    at, samples
        Where it was tried, shape (K,), and independent draws there, shape (K, n).
    grid
        Where the curve is drawn; nowhere when empty.
    interval
        95 % interval of a single draw at x, drawn as a band.
    systematic
        Declared relative error of the law at each of ``at``.
    holds
        False where the page says that the law fails: drawn hollow.
    """

    label: str
    law: Callable[[float], float]
    at: Sequence[float]
    samples: Array
    grid: Sequence[float] | Array = ()
    interval: Callable[[float], tuple[float, float]] | None = None
    systematic: Sequence[float] = ()
    holds: bool = True

    @property
    def mean(self) -> Array:
        """Mean of the draws, shape (K,)."""
        return np.asarray(self.samples.mean(1))

    @property
    def stderr(self) -> Array:
        """Its standard error, shape (K,)."""
        return np.asarray(self.samples.std(1, ddof=1) / math.sqrt(self.samples.shape[1]))

    @property
    def expected(self) -> Array:
        """The law at ``at``, shape (K,), moved toward the draws within its declared error."""
        law = np.array([self.law(x) for x in self.at])
        room = np.abs(law) * (self.systematic or 0.0)
        return np.asarray(law + np.clip(self.mean - law, -room, room))

    @property
    def pull(self) -> Array:
        """Monte Carlo minus theory in standard errors, shape (K,)."""
        return np.asarray((self.mean - self.expected) / self.stderr)


@dataclass(frozen=True, kw_only=True)
class Picture:
    """What a figure draws: series, axes, vertical marks with what they are called, and what it shows in words."""

    title: str
    series: tuple[Series, ...]
    x: str
    y: str
    words: str
    log_x: bool = False
    log_y: bool = False
    marks: tuple[float, ...] = ()
    mark: str = ""


def walk_picture() -> Picture:
    """Draw norms of 100 flat directions in every coordinate under three rewards: one law."""
    flat, curved, population, steps = 100, 4, 10, 100
    config = ESConfig(dim=flat, sigma=0.1, alpha=0.05, population=population, steps=steps)
    hill = flat_plus_isotropic(dim=flat + curved, directions=curved, eigenvalue=1.0, offset=0.5, reward_std=0.02)
    noise = flat_plus_isotropic(dim=flat, directions=0, eigenvalue=0.0, offset=0.0, reward_std=1.0)
    unit = config.step_size * math.sqrt(flat / population)
    accuracy = sigmoid_reward(hill, prompts=64)
    signal = linear_signal(sigma=config.sigma)

    def law(step: float) -> ChiLaw:
        w = walk(config, signal, int(step))
        return ChiLaw(math.sqrt(w.variance) / unit, w.effective_dim)

    tried = (
        ("noise alone", noise, None, (10, 40, 70, 100)),
        ("a quadratic", hill, None, (20, 50, 80)),
        ("accuracy on 64 prompts", hill, accuracy, (30, 60, 90)),
    )
    series: list[Series] = []
    for name, landscape, reward, at in tried:
        run = replace(config, dim=landscape.dim)
        records = simulate(
            run, landscape, replicas=200, steps=at, seed=SEED + len(series), engine="direct", reward=reward
        )
        length = norms(records.flat_gram)[:, [records.steps.index(t) for t in at]] / unit
        grid = range(1, steps + 1) if not series else ()
        interval = None if series else lambda t: law(t).interval(0.95)
        series.append(
            Series(label=name, law=lambda t: law(t).mean, at=at, samples=length.T, grid=grid, interval=interval)
        )
    return Picture(
        title="The walk is the same whatever the reward",
        series=tuple(series),
        x="step T",
        y="‖Δ‖ of 100 flat directions, in α√(d/N)",
        words="The norm grows as the square root of the steps, to 10 at step 100, alike for a reward of noise alone, "
        "a quadratic, and an accuracy on 64 prompts",
    )


def signal_picture() -> Picture:
    """Draw one step in every coordinate: its cosine with the gradient falls with d, its progress does not."""
    rho2, sigma, population = 0.3, 0.1, 10
    dims = (10, 30, 100, 300, 1000, 3000)
    other = sigma * math.sqrt((1 - rho2) / rho2)  # of a gradient of norm 1
    signal = linear_signal(sigma=sigma, gradient_norm=1.0, reward_std=other)
    config = ESConfig(dim=10, sigma=sigma, alpha=0.05, population=population, steps=1)
    cosines, along = [], []
    for seed, dim in enumerate(dims, SEED):  # a straight line: curvature 1e-6, optimum a million away
        line = flat_plus_isotropic(dim=dim, directions=1, eigenvalue=1e-6, offset=1e6, reward_std=other)
        records = simulate(replace(config, dim=dim), line, replicas=3000, seed=seed, engine="direct")
        cosines.append(ratio(records.projection[:, 0], norms(records.gram)[:, 0]))
        along.append(records.projection[:, 0] / config.step_size)
    grid = np.geomspace(10, 3000, 40)
    return Picture(
        title="Nearly orthogonal to the gradient, and yet uphill",
        series=(
            Series(
                label="cosine with the gradient",
                law=lambda dim: gradient_cosine(replace(config, dim=round(dim)), rho2).mean,
                at=dims,
                samples=np.array(cosines),
                grid=grid,
            ),
            Series(
                label="progress along it, in α",
                law=lambda dim: progress_per_step(replace(config, dim=round(dim)), signal) / config.step_size,
                at=dims,
                samples=np.array(along),
                grid=grid,
            ),
        ),
        x="dimension d",
        y="one step, N = 10, ρ² = 0.3",
        words="From 10 to 3000 dimensions the cosine of a step with the gradient falls as one over the root of d, "
        "while its progress along the gradient stays at 0.51 α",
        log_x=True,
        log_y=True,
    )


def quadratic_picture() -> Picture:
    """Draw the gain of one step on the two-scale landscape over the step size, for three populations."""
    landscape = two_scale()
    series, marks = [], []
    for population in (10, 30, 100):
        config = ESConfig(dim=landscape.dim, sigma=0.01, population=population, steps=1)
        best = optimal_alpha(config, landscape)
        marks.append(best)

        def law(alpha: float, config: ESConfig = config) -> float:
            return expected_gain(replace(config, alpha=alpha), landscape)

        at = [round(best * share, 3) for share in (0.25, 0.6, 1.0, 1.5, 1.9)]
        samples = []
        for seed, alpha in enumerate(at, SEED):
            records = simulate(replace(config, alpha=alpha), landscape, replicas=200, seed=seed, engine="direct")
            samples.append(records.reward[:, 0] - records.start_reward)
        series.append(
            Series(
                label=f"N = {population}",
                law=law,
                at=at,
                samples=np.array(samples),
                grid=np.linspace(0.01, 2 * best, 40),
            )
        )
    return Picture(
        title="What one step gains on curved ground",
        series=tuple(series),
        x="step size α",
        y="gain of reward in one step",
        words="Each population's gain is a parabola in the step size with its own best step; its top rises with the "
        "population, ever more slowly beyond the critical one of 7.6",
        marks=tuple(marks),
        mark="α*",
    )


def dynamics_picture() -> Picture:
    """Draw the gap to the best reward along runs on the two-scale landscape: it closes, and opens again."""
    config, landscape, _ = preset("two-scale")
    curve = mean_field(config, landscape)
    at = (2, 5, 10, 20, 40, 70, 125, 200, 300, 400)
    records = simulate(config, landscape, replicas=100, steps=at, seed=SEED)
    gap = -records.reward[:, [records.steps.index(t) for t in at]].T
    grid = np.unique(np.geomspace(1, 400, 50).round())
    runs = {one.step: one for one in reward_spread(config, landscape, [*map(int, grid), *at])}
    peak = curve.peak
    assert peak is not None

    def interval(step: float) -> tuple[float, float]:
        low, high = runs[int(step)].law.interval(0.95)
        return -high, -low

    return Picture(
        title="The reward rises, peaks and decays",
        series=(
            Series(
                label="R* − R on the two-scale landscape",
                law=lambda step: -curve.at(int(step)),
                at=at,
                samples=gap,
                grid=grid,
                interval=interval,
                systematic=[runs[t].systematic for t in at],
            ),
        ),
        x="step T",
        y="distance from the best reward",
        words=f"The distance from the best reward falls from 2.25 to {-peak[1]:.4f} at step {peak[0]}, where the "
        f"reward peaks, and grows to {-curve.at(400):.4f} at step 400",
        log_x=True,
        log_y=True,
        marks=(peak[0],),
        mark=f"peak predicted: {peak[0]}",
    )


def drift_picture() -> Picture:
    """Draw the true KL of a softmax model along flat walks, against the quadratic law of its Fisher matrix."""
    tokens, features, contexts, population = 8, 10, 20, 10
    rng = np.random.default_rng(SEED)
    inputs = rng.standard_normal((contexts, features))
    base = inputs @ rng.normal(0.0, 0.5, (features, tokens))
    p = np.exp(base) / np.exp(base).sum(1, keepdims=True)
    spread = np.einsum("ci,ij->cij", p, np.eye(tokens)) - np.einsum("ci,cj->cij", p, p)
    dim = tokens * features
    fisher = np.einsum("ca,cb,cij->aibj", inputs, inputs, spread).reshape(dim, dim) / contexts
    trace, square = float(np.trace(fisher)), float(np.sum(fisher**2))
    config = ESConfig(dim=dim, sigma=0.1, alpha=0.05, population=population, steps=1000)
    noise = flat_plus_isotropic(dim=dim, directions=0, eigenvalue=0.0, offset=0.0, reward_std=1.0)
    runs = DirectES(config, noise, 400, np.random.SeedSequence(SEED))
    near, far, samples = (1, 3, 10, 30), (300, 1000), {}
    for step in range(1, far[-1] + 1):
        runs.step()
        if step in near + far:
            logits = base + inputs @ runs.displacement.reshape(-1, features, tokens)
            logs = np.log(p) - logits + np.log(np.exp(logits).sum(-1, keepdims=True))
            samples[step] = np.sum(p * logs, axis=-1).mean(-1)

    def interval(step: float) -> tuple[float, float]:
        w = walk(config, linear_signal(sigma=config.sigma), round(step))
        return kl_law(w, fisher_trace=trace, fisher_square_trace=square).interval(0.95)

    def law(step: float) -> float:
        return kl_law(walk(config, linear_signal(sigma=config.sigma), round(step)), fisher_trace=trace).mean

    return Picture(
        title="KL from the base model grows with the walk",
        series=(
            Series(
                label="KL of a softmax model",
                law=law,
                at=near,
                samples=np.array([samples[t] for t in near]),
                grid=np.unique(np.geomspace(1, far[-1], 40).round()),
                interval=interval,
            ),
            Series(
                label="too long a walk for ½v tr F",
                law=law,
                at=far,
                samples=np.array([samples[t] for t in far]),
                holds=False,
            ),
        ),
        x="step T",
        y="KL(base ‖ tuned), nat per token",
        words="The true KL of a softmax model follows half v times the trace of F over two orders of magnitude, and "
        "leaves it where the walk has grown too long for the quadratic",
        log_x=True,
        log_y=True,
    )


def es_and_grpo_picture() -> Picture:
    """Draw the mean square displacement over that of independent steps: ES and AdamW on gradient noise."""
    dim, population, replicas = 100, 10, 100
    at = (2, 5, 10, 20, 50, 100, 200)
    flat = flat_plus_isotropic(dim=dim, directions=0, eigenvalue=0.0, offset=0.0, reward_std=1.0)
    noise = NoisyGradient(dense=1.0)
    es = ESConfig(dim=dim, sigma=0.1, alpha=0.05, population=population, steps=at[-1])
    records = simulate(es, flat, replicas=replicas, steps=at, seed=SEED, engine="direct")
    squares = np.array([records.gram[:, k, k] for k in map(records.steps.index, at)])
    one_step = es.step_size**2 * dim / population
    grid = np.unique(np.geomspace(1, at[-1], 30).round())
    signal = linear_signal(sigma=es.sigma)

    def factor(schedule: Schedule) -> Callable[[float], float]:
        return lambda steps: walk_factor(learning_rates(int(steps), schedule))

    def adamw(schedule: Schedule) -> Array:
        found = []
        for steps in at:
            rule = Descent(lr=1.0, steps=steps, schedule=schedule)
            runs = gradient_descent(flat, noise, rule, replicas=replicas, seed=SEED + steps)
            found.append(runs.gram[:, -1, -1] / (dim * float(np.sum(learning_rates(steps, schedule) ** 2))))
        return np.array(found)

    return Picture(
        title="AdamW walks too, and at first further than its steps",
        series=(
            Series(
                label="ES",
                law=lambda steps: walk(es, signal, int(steps)).variance * dim / (one_step * steps),
                at=at,
                samples=squares / (one_step * np.array(at)[:, None]),
                grid=grid,
            ),
            Series(
                label="AdamW, constant rate",
                law=factor("constant"),
                at=at,
                samples=adamw("constant"),
                grid=grid,
            ),
            Series(label="AdamW, linear decay", law=factor("linear"), at=at, samples=adamw("linear"), grid=grid),
        ),
        x="steps T of the run",
        y="‖Δ‖² over that of independent steps: k(T)",
        words="On gradient noise the factor k of AdamW rises to 1.4 at 10 steps of constant rate and to 1.7 at 15 of "
        "linear decay, and falls toward 1, the value of ES at every T: 1.05 and 1.2 at 200 steps",
        log_x=True,
    )


def precision_picture() -> Picture:
    """Draw one addition to bfloat16 weights, rounded: what arrives of its variance and of its signal."""
    at = (0.2, 0.25, 0.3, 0.4, 0.5, 0.7, 1.0, 2.0, 4.0)
    bfloat16, rng = FORMATS["bfloat16"], np.random.default_rng(SEED)
    spacing = float(bfloat16.spacing(np.array(-6)))
    weights = rounded(rng.uniform(1.25, 1.75, (len(at), 20_000)) * 2.0**-6, bfloat16).astype(np.float64)
    update = np.array(at)[:, None] * spacing * rng.standard_normal(weights.shape)
    moved = rounded(weights + update, bfloat16) - weights
    mean_square = (np.array(at)[:, None] * spacing) ** 2
    grid = np.geomspace(0.08, 5, 80)
    return Picture(
        title="What rounding to bfloat16 leaves of an update",
        series=(
            Series(label="variance", law=rounding_gain, at=at, samples=moved**2 / mean_square, grid=grid),
            Series(label="signal", law=signal_gain, at=at, samples=update * moved / mean_square, grid=grid),
        ),
        x="update over grid spacing, τ/u",
        y="share that arrives",
        words="Below a fifth of the spacing hardly anything arrives; between 0.25 and 0.4 the variance looks right "
        "while a third of the signal is missing; at half the spacing rounding adds 30 percent of variance",
        log_x=True,
    )


def laws_picture() -> Picture:
    """Draw how often a verdict says refuted, over the spread of law and measurement: false theory and true."""
    at, draws, level, error = (1.2, 1.4, 2.0, 3.0, 5.0), 1000, 0.05, 0.05
    norm = Quantity.DISPLACEMENT_NORM

    def pair(percent: float, value: float) -> tuple[Prediction, Measurement]:
        half = percent / 100 / math.sqrt(2)  # of the variance is the law's, half the measurement's
        prediction = Prediction(quantity=norm, law=NormalLaw(1.0, half), label="exact", source="", assumptions=())
        return prediction, Measurement(quantity=norm, value=value, stderr=half)

    rng = np.random.default_rng(SEED)

    def refuted(truth: float) -> Array:
        found = np.empty((len(at), draws))
        for row, percent in zip(found, at, strict=True):
            values = truth + percent / 100 * rng.standard_normal(draws)
            row[:] = [judge([pair(percent, float(value))], level)[0].kind == "refuted" for value in values]
        return found

    grid = np.linspace(0.5, 6.0, 60)
    able = 100 * error / (normal_quantile(1 - level / 2) + normal_quantile(REQUIRED_POWER))
    return Picture(
        title="When agreement counts",
        series=(
            Series(
                label="theory 5 % off",
                law=lambda percent: refuting_power(*pair(percent, 1.0), level),
                at=at,
                samples=refuted(1.0 + error),
                grid=grid,
            ),
            Series(label="theory right", law=lambda percent: level, at=at, samples=refuted(1.0), grid=grid),
        ),
        x="spread of law and measurement together, % of the mean",
        y="share of verdicts that are refuted",
        words="A theory that is right is refuted in 5 percent of cases at any spread. One that is 5 percent off is "
        "caught in 95 percent of cases up to a spread of 1.4 percent, where unrefuted rows are consistent, and ever "
        "more rarely beyond, where they are underpowered",
        marks=(able,),
        mark="left consistent, right underpowered",
    )


FIGURES: dict[str, Callable[[], Picture]] = {
    "walk": walk_picture,
    "signal": signal_picture,
    "quadratic": quadratic_picture,
    "dynamics": dynamics_picture,
    "drift": drift_picture,
    "es-and-grpo": es_and_grpo_picture,
    "precision": precision_picture,
    "laws-and-verdicts": laws_picture,
}
"""By page of docs/concepts; the site has each as concepts/NAME.svg."""


def svg(picture: Picture) -> str:
    """Return a figure as SVG: laws and Monte Carlo above, their difference in standard errors below."""
    with new_figure(300) as figure:
        top, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        for index, one in enumerate(picture.series):
            colour, line = style(index)
            grid = np.asarray(one.grid, dtype=np.float64)
            if grid.size:
                top.plot(grid, [one.law(x) for x in grid], line, color=colour)
            if one.interval is not None:
                low, high = np.transpose([one.interval(x) for x in grid])
                top.fill_between(grid, low, high, color=LIGHT["muted"], alpha=0.2, linewidth=0)
            look: dict[str, Any] = {
                "color": colour,
                "markerfacecolor": colour if one.holds else "none",
                "markersize": 4,
            }
            top.errorbar(one.at, one.mean, one.stderr, fmt=MARKERS[index], capsize=2, label=entry(one.label), **look)
            below.plot(one.at, one.pull, MARKERS[index], **look)
        for place in picture.marks:
            label = picture.mark if place == picture.marks[0] else ""
            top.axvline(place, color=LIGHT["muted"], linewidth=1, linestyle=":", label=label)
        below.axhspan(-2, 2, color=LIGHT["muted"], alpha=0.15, linewidth=0)
        below.axhline(0, color=LIGHT["text"], linewidth=0.8)
        most = max(5.0, *(1.2 * float(np.abs(one.pull).max()) for one in picture.series))
        below.set_ylim(-most, most)
        below.set_title("Monte Carlo − theory, in standard errors")
        top.set_title(picture.y)
        below.set_xlabel(picture.x)
        if picture.log_x:
            top.set_xscale("log")
            _plain_ticks(below.xaxis)
        if picture.log_y:
            top.set_yscale("log")
            _plain_ticks(top.yaxis)
        legend(figure, top)
        drawn = to_svg(figure, picture.title, picture.words + ".")
    return standing(drawn)


def _plain_ticks(axis: Axis) -> None:
    """Label a logarithmic axis by numbers: powers of ten, and 2 and 5 times them where the axis is short."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1.0,) if high > 200 * low else (1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


if __name__ == "__main__":
    for name, make in FIGURES.items():
        (Path(__file__).parent / "concepts" / f"{name}.svg").write_text(svg(make()), encoding="utf-8")
