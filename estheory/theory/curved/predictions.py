"""Predictions that need the curvature of the reward, or what another task's behaviour depends on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from estheory.citations import ours
from estheory.errors import ConfigError
from estheory.landscape import Landscape, Signal
from estheory.laws import CutNormalLaw, Law, PointLaw
from estheory.quantities import Label, Prediction, Quantity
from estheory.rules import ESConfig
from estheory.theory import drift
from estheory.theory.anchor_l1 import CLOSURE_ERROR
from estheory.theory.curved import comparison, dynamics
from estheory.theory.curved import step as quadratic
from estheory.theory.curved.error import stationary_declared_error
from estheory.theory.curved.fluctuations import reward_spread
from estheory.theory.curved.ranges import step_range
from estheory.theory.curved.reward_laws import LinearQuadraticLaw
from estheory.theory.curved.stationary import stationary_state
from estheory.theory.estimators import estimator_of
from estheory.theory.run_norm import RunNorm, drifts_as_walk
from estheory.theory.walk import Walk

QUADRATIC = ours("quadratic")
DYNAMICS = ours("dynamics")
DRIFT = ours("drift")
STRONGEST_PULL = 0.1
"""Pull of an L1 anchor, in standard deviations of a step, up to which its closure holds on curved ground."""
MOST_PULLED_REWARD = 0.5
"""The same, up to which its closure holds for the mean reward: within 4 % at 0.3, off by a third from 1 on."""
NEGLIGIBLE_TIES = 1e-6
"""Expected number of steps without motion up to which an off-task change is given."""
LEAST_MIXING = 20.0
"""Degrees of freedom of a bounded fluctuation of the variance, from which a chi-square stands for it."""
MANY_DIRECTIONS = 20
"""Square of the trace over the trace of the square, from which a sum over directions is taken to be normal."""
LOCAL = ("locally quadratic reward", "Gaussian reward noise")


@dataclass(frozen=True, kw_only=True)
class OffTask:
    """What is known of another behaviour around the model; any of it may be unknown.

    Attributes
    ----------
    fisher_trace, fisher_square_trace
        tr F and tr F^2 per token, for KL(base || tuned), 1/weight^2 and 1/weight^4.
    fisher_trace_stderr
        Standard error of the estimate of tr F, 1/weight^2.
    trace, square_trace
        tr Lam_off and tr Lam_off^2 of minus the Hessian of another task's reward, reward / weight^2 and its square.
    gradient_norm
        ||g_off|| of that reward, reward / weight.
    signal_curvature, signal_curvature_stderr
        f = g^' F g^ of KL along the gradient that the run follows, and its standard error, 1/weight^2; a difference of
        noisy probes, which counts as 0 where it is negative.
    """

    fisher_trace: float | None = None
    fisher_square_trace: float | None = None
    fisher_trace_stderr: float = 0.0
    trace: float | None = None
    square_trace: float | None = None
    gradient_norm: float | None = None
    signal_curvature: float | None = None
    signal_curvature_stderr: float = 0.0


def steered_kl(
    off_task: OffTask, walks: Mapping[int, Walk], lengths: Mapping[int, RunNorm], gains: Mapping[int, float]
) -> Iterator[Prediction]:
    """Predict the KL of a run that a constant gradient moves, where KL was probed along that gradient.

    Parameters
    ----------
    off_task
        With tr F and the curvature along the signal; without them nothing is predicted.
    walks, lengths, gains
        The walk, the norm with its motion along the gradient, and rounding's factor on the walk's variance, by step.

    Yields
    ------
    Prediction
        ``kl_drift``, nats per token: 1/2 v tr F + 1/2 P^2 f, never negative; where the motion is known.

    Notes
    -----
    Label: small-step. Source: ours: docs/concepts/economy.md.
    """
    if off_task.fisher_trace is None or off_task.signal_curvature is None:
        return
    for step, walked in walks.items():
        if step not in lengths or not lengths[step].progress:
            continue
        w, square = walked.at_mean_length, lengths[step].progress ** 2
        walk = kl_of_walk(off_task, w, gains[step])
        mean = walk.mean + 0.5 * square * max(off_task.signal_curvature, 0.0)
        spread = math.hypot(walk.std, 0.5 * square * off_task.signal_curvature_stderr)
        yield Prediction(
            quantity=Quantity.KL_DRIFT,
            law=CutNormalLaw(mean, spread, 0.0, math.inf) if spread > 0 else PointLaw(mean),
            label="small-step",
            source=ours("economy"),
            assumptions=(
                *w.assumptions,
                "quadratic in the displacement",
                "the gradient keeps its direction and length, and KL its curvature along it: an upper bound once "
                "rewards rise",
            ),
            step=step,
            systematic=w.declared_error,
        )


def kl_of_walk(off_task: OffTask, walk: Walk, gain: float) -> Law:
    """Return the law of a walk's KL, of known tr F.

    Parameters
    ----------
    off_task
        With tr F.
    walk
        The walk.
    gain
        Rounding's factor on its variance.

    Returns
    -------
    Law
        Nats per token.

    Notes
    -----
    Label: small-step. Source: ours: docs/concepts/drift.md.
    """
    assert off_task.fisher_trace is not None  # the callers ask
    square = off_task.fisher_square_trace
    return drift.kl_law(
        walk,
        fisher_trace=off_task.fisher_trace * gain,
        fisher_square_trace=None if square is None else square * gain**2,
        fisher_trace_stderr=off_task.fisher_trace_stderr * gain,
    )


def landscape_off_task(landscape: Landscape, given: OffTask | None) -> OffTask | None:
    """Return what is known of another behaviour: what was given, then what the landscape has.

    Parameters
    ----------
    landscape
        Its fields for another behaviour.
    given
        What wins over them.

    Returns
    -------
    OffTask or None
        None where nothing is known.
    """
    nothing = OffTask()
    known = OffTask(
        fisher_trace=landscape.fisher_trace or None,
        fisher_square_trace=landscape.fisher_square_trace or None,
        fisher_trace_stderr=landscape.fisher_trace_stderr,
        trace=landscape.off_task_trace,
        square_trace=landscape.off_task_square_trace,
        gradient_norm=landscape.off_task_gradient_norm,
    )
    if given is not None:
        known = replace(known, **{k: value for k, value in vars(given).items() if value != getattr(nothing, k)})
    return None if known == nothing else known


def landscape_signal(config: ESConfig, landscape: Landscape) -> Signal:
    """Return the linear signal of a landscape at its offsets, rho^2 = sigma^2 ||g||^2 / S^2.

    Parameters
    ----------
    config, landscape
        The run; sigma alone enters.

    Returns
    -------
    Signal
        Its gradient norm is None where the gradient is 0.

    Raises
    ------
    ConfigError
        Where all members have the same reward.
    """
    if landscape.member_std(config.sigma) == 0:
        raise ConfigError("all members have the same reward", "give --reward-std, or a spectrum with curvature")
    return replace(landscape.signal(config.sigma), gradient_norm=landscape.gradient_norm or None)


def follows_spread(config: ESConfig, landscape: Landscape) -> bool:
    """Return whether the noise of a step changes along the run with the spread of the rewards.

    Parameters
    ----------
    config, landscape
        The run.

    Returns
    -------
    bool
        True on curved ground with pairs, raw or two-point shaping.
    """
    return bool(landscape.trace) and not estimator_of(config).fixed_variance


def flat_walk(config: ESConfig, landscape: Landscape, w: Walk, step: int) -> Walk:
    """Return the walk of the flat directions after ``step`` steps, the spread of the rewards as along the run.

    Parameters
    ----------
    config, landscape
        The run.
    w
        The walk under a spread as at the start, which is right where the shaping takes the spread out.
    step
        T.

    Returns
    -------
    Walk
        ``w`` itself where the spread does not matter, or the recursion diverges; not called exact outside the range of
        the expansions.

    Notes
    -----
    Label: mean-field. Source: ours: docs/concepts/dynamics.md.
    """
    if not follows_spread(config, landscape):
        return replace(w, label="mean-field") if w.label == "exact" and step_range(config, landscape) else w
    with np.errstate(over="ignore", invalid="ignore"):
        variance = comparison.es_end_point(config, landscape, step).flat_variance
    if not np.isfinite(variance):
        return w
    if config.anchor_l1:
        pull = config.anchor_l1 / float(np.sqrt(estimator_of(config).variance(landscape.signal(config.sigma)).value))
        if pull > STRONGEST_PULL:
            unknown = ("an L1 anchor pulls steps whose spread changes along the run: no law here",)
            return replace(w, declared_error=2.0, label="mean-field", assumptions=(*w.assumptions, *unknown))
    along = ("the spread of the rewards follows the run by mean field",)
    fluctuation = estimator_of(config).curved_fluctuation(quadratic.step_moments(config, landscape).excess_kurtosis)
    return replace(
        w,
        variance=variance,
        mixing_df=w.mixing_df / fluctuation,
        label="mean-field",
        source=DYNAMICS,
        assumptions=(*w.assumptions, *along),
    )


def _predicted(
    quantity: Quantity, law: Law, label: Label, source: str, *, step: int | None = None, systematic: float = 0.0
) -> Prediction:
    return Prediction(
        quantity=quantity, law=law, label=label, source=source, assumptions=LOCAL, step=step, systematic=systematic
    )


def on_task(config: ESConfig, landscape: Landscape, steps: list[int], warnings: list[str]) -> Iterator[Prediction]:
    """Predict progress, gain, best step size, critical population, reward curve, peak and stationary state.

    Parameters
    ----------
    config, landscape
        The run.
    steps
        Steps at which the reward is predicted.
    warnings
        Grows by what is out of range and what has no result (no curvature along the gradient, a diverging recursion).

    Yields
    ------
    Prediction
        Each with its label and source.
    """
    warnings.extend(str(left) for left in step_range(config, landscape))
    if config.noise == "shared-seed":
        warnings.append(
            "shared seeds: curved directions are taken to lie as if at random among the tensors (v'Cv = 1 each); along "
            "one that repeats in m tensors sigma and alpha act sqrt(m) times as large"
        )
    elif config.noise_rank is not None:
        warnings.append("low-rank noise: curved directions are taken to be spread over many rows and columns")
    moments = quadratic.step_moments(config, landscape)

    def progress() -> float:
        if not landscape.gradient_norm:
            raise ConfigError("the gradient is zero at the offsets given")
        along = landscape.multiplicity @ (landscape.gradient * moments.displacement)
        return float(along) / landscape.gradient_norm

    one_step: list[tuple[Quantity, Callable[[], float], Label]] = [
        (Quantity.PROGRESS_PER_STEP, progress, moments.label),
        (Quantity.REWARD_GAIN_PER_STEP, lambda: quadratic.expected_gain(config, landscape), moments.label),
        (Quantity.OPTIMAL_ALPHA, lambda: quadratic.optimal_alpha(config, landscape), moments.label),
        (Quantity.CRITICAL_POPULATION, lambda: quadratic.critical_population(config, landscape), "large-N"),
    ]
    if config.anchor_l1 and config.anchor_form == "after" and not estimator_of(config).fixed_variance:
        warnings.append(
            "no progress_per_step and reward_gain_per_step: the after form of an L1 anchor takes more from the short "
            "ones of these uneven steps, which has no law here"
        )
        one_step = one_step[2:]
    for quantity, compute, label in one_step:
        try:
            yield _predicted(quantity, PointLaw(compute()), label, QUADRATIC, step=1)
        except ConfigError as error:
            warnings.append(f"no {quantity}: {error.what}")
    try:
        settled = stationary_state(config, landscape)
        yield _predicted(
            Quantity.STATIONARY_REWARD_GAP,
            PointLaw(settled.gap),
            "mean-field",
            DYNAMICS,
            systematic=stationary_declared_error(config, landscape, settled),
        )
    except ConfigError as error:
        warnings.append(f"no stationary_reward_gap: {error.what}")
    try:
        curve = dynamics.mean_field(config, landscape, max(steps), steps)
        yield from _rewards(config, landscape, steps, curve, warnings)
    except ConfigError as error:
        warnings.append(f"no reward: {error.what}")
        return
    if curve.peak is None:
        warnings.append(f"no reward_peak_step: the mean reward has not come down from a peak by step {max(steps)}")
    elif curve.label != "exact" and curve.peak[1] - curve.reward[-1] < abs(curve.peak[1]) / config.population:
        warnings.append(
            f"no reward_peak_step: by step {max(steps)} the mean reward has come down by less than the 1/N that its "
            "label leaves open"
        )
    else:
        yield _predicted(Quantity.REWARD_PEAK_STEP, PointLaw(float(curve.peak[0])), curve.label, DYNAMICS)


def _rewards(
    config: ESConfig, landscape: Landscape, steps: list[int], curve: dynamics.Trajectory, warnings: list[str]
) -> list[Prediction]:
    """Predict the reward of a run after each of ``steps``; with an L1 anchor its mean alone."""
    if config.anchor_l1:
        pull = config.anchor_l1 / float(np.sqrt(estimator_of(config).variance(landscape.signal(config.sigma)).value))
        if pull > MOST_PULLED_REWARD:
            warnings.append(
                f"no reward: an L1 anchor that pulls by {pull:.2g} standard deviations of a step has no result"
            )
            return []
        warnings.append("the spread of single runs with an L1 anchor has no result here: reward is the mean over runs")
        laws: list[tuple[Law, int, float]] = [
            (PointLaw(curve.at(t)), t, 2 / config.population + CLOSURE_ERROR) for t in steps
        ]
    else:
        laws = [(s.law, s.step, s.systematic) for s in reward_spread(config, landscape, steps)]
    return [
        # where the mean is exact, its law is not: a gamma variable of a variance to first order
        _predicted(Quantity.REWARD, law, "mean-field", DYNAMICS, step=step, systematic=band)
        for law, step, band in laws
    ]


def off_task_warnings(off_task: OffTask) -> Iterator[str]:
    """Say what the laws of another behaviour lack.

    Parameters
    ----------
    off_task
        What is known of it.

    Yields
    ------
    str
        One sentence each.
    """
    if off_task.fisher_trace is not None and off_task.fisher_square_trace is None:
        yield "kl_drift is a mean over seeds: its spread needs --fisher-square-trace"
    if off_task.trace and off_task.square_trace is None:
        yield (
            "off_task_reward_change leaves out how its curved part scatters between runs: up to 1.4 times the mean "
            "loss, and more where curvatures have both signs; give --off-task-square-trace"
        )
    elif off_task.square_trace and (off_task.trace or 0.0) ** 2 < MANY_DIRECTIONS * off_task.square_trace:
        yield (
            f"off_task_reward_change is normal, as of many directions: these traces allow fewer than "
            f"{MANY_DIRECTIONS}, whose tails are heavier"
        )


def drifting(
    off_task: OffTask,
    walks: Mapping[int, Walk],
    lengths: Mapping[int, RunNorm],
    landscape: Landscape | None,
    warnings: list[str],
) -> dict[int, Walk]:
    """Return the walks that drift as another behaviour's traces tell.

    Parameters
    ----------
    off_task
        What is known of the other behaviour.
    walks, lengths
        The walks and the norms of a run by step; no norms where it has no law of them.
    landscape
        None for a linear reward, whose gradient may be any direction of the other behaviour.
    warnings
        Grows by where signal or curvature moves the run besides.

    Returns
    -------
    dict
        By step.

    Notes
    -----
    Label: exact or large-N, as of the walks. Source: ours: docs/concepts/drift.md.
    """
    moved = [
        step for step, w in walks.items() if step not in lengths or not drifts_as_walk(w, lengths[step].mean_square)
    ]
    if not moved:
        return dict(walks)
    at = f"at step {moved[0]}" if len(moved) == 1 else f"at steps {moved[0]} to {moved[-1]}"
    reward_known = off_task.trace is not None or off_task.gradient_norm is not None
    names = ["kl_drift"] * (off_task.fisher_trace is not None) + ["off_task_reward_change"] * reward_known
    rows = " and ".join(names)
    if landscape is None:
        if names:
            warnings.append(
                f"no {rows} {at}: the signal moves the run along its gradient besides, and traces do not say how much "
                "another behaviour depends on that direction"
                + ("; estheory probe --mirrored measures KL along it" if "kl_drift" in names else "")
            )
        return {step: w for step, w in walks.items() if step not in moved}
    scattered = [step for step in moved if step not in lengths and walks[step].mixing_df < LEAST_MIXING]
    if scattered:
        warnings.append(f"no {rows}: curvature gives the length of so few steps a law that is not known here")
    if len(scattered) < len(moved):
        warnings.append(
            f"{rows} {at} are for a behaviour of flat directions: signal and curvature move the others in another way"
        )
    return {step: w for step, w in walks.items() if step not in scattered}


def off_task_predictions(
    off_task: OffTask, walks: Mapping[int, Walk], gains: Mapping[int, float], warnings: list[str]
) -> Iterator[Prediction]:
    """Predict the KL from the base model and the change of another task's reward, at each step.

    Parameters
    ----------
    off_task
        What is known of the other behaviour.
    walks
        The walk by step.
    gains
        Rounding's factor on the variance of the walk, by step.
    warnings
        Grows by why there is no law.

    Yields
    ------
    Prediction
        ``kl_drift`` (nats per token) and ``off_task_reward_change`` (reward), as far as they are known.
    """
    for step, walked in walks.items():
        w = walked.at_mean_length
        if not w.enough_pairs():
            warnings.append(
                f"no kl_drift and no off_task_reward_change at step {step}: the variance of so few pairs and steps "
                "fluctuates in a way that has no law here"
            )
            continue
        tied = w.tie_probability * step > NEGLIGIBLE_TIES
        if tied and not w.lengths and w.independent_steps < min(LEAST_MIXING, step):
            warnings.append(
                f"no kl_drift and no off_task_reward_change at step {step}: momentum or an anchor weighs so few steps "
                "unevenly, and which of them tie has no law here"
            )
            continue
        if tied and (off_task.trace is not None or off_task.gradient_norm is not None):
            warnings.append(
                f"no off_task_reward_change at step {step}: steps that tie do not move, which widens its law"
            )
        gain = gains[step]
        entries: list[tuple[Quantity, Law]] = []
        if off_task.fisher_trace is not None:
            entries.append((Quantity.KL_DRIFT, kl_of_walk(off_task, w, gain)))
        if not tied and (off_task.trace is not None or off_task.gradient_norm is not None):
            law = drift.off_task_reward_law(
                w,
                trace=(off_task.trace or 0.0) * gain,
                square_trace=None if off_task.square_trace is None else off_task.square_trace * gain**2,
                gradient_norm=(off_task.gradient_norm or 0.0) * float(np.sqrt(gain)),
            )
            entries.append((Quantity.OFF_TASK_REWARD_CHANGE, law))
        for quantity, law in entries:
            behaviour = quantity is Quantity.OFF_TASK_REWARD_CHANGE
            drifted = Prediction(
                quantity=quantity,
                law=law,
                label="small-step",
                source=DRIFT,
                assumptions=(
                    *w.assumptions,
                    "isotropic drift",
                    "quadratic in the displacement",
                    *(("many directions share the curvature",) if behaviour else ()),
                ),
                step=step,
                systematic=w.declared_error,
            )
            yield drifted if behaviour else walked.scattered(drifted, 1.0)


def against_optimum(
    config: ESConfig, landscape: Landscape, step: int, predictions: Sequence[Prediction]
) -> Iterator[Prediction]:
    """Predict the largest rise over the chord between ES and a gradient run that ends at the optimum.

    It is D' Lam D / 8 with D = theta_ES - theta*, a quarter of the reward gap: the law and band of ``reward``.

    Parameters
    ----------
    config, landscape
        The ES run.
    step
        T.
    predictions
        Those of the run; without a ``reward`` at that step there is no gain either.

    Yields
    ------
    Prediction
        ``interpolation_gain``, reward units.
    """
    optimum = comparison.EndPoint(
        mean=np.zeros_like(landscape.offset), variance=np.zeros_like(landscape.offset), flat_variance=0.0
    )
    for reward in predictions:
        if reward.quantity is not Quantity.REWARD or reward.step != step:
            continue
        gain = -0.25 * reward.law.mean
        if isinstance(reward.law, LinearQuadraticLaw):
            law: Law = replace(reward.law, quadratic_mean=gain)
        else:
            law = comparison.interpolation_gain(landscape, comparison.es_end_point(config, landscape, step), optimum)
        yield Prediction(
            quantity=Quantity.INTERPOLATION_GAIN,
            law=law,
            label="mean-field",
            source=ours("es-and-grpo"),
            assumptions=(*LOCAL, "GRPO ends at the optimum of the curved directions"),
            step=step,
            systematic=reward.systematic,
        )
