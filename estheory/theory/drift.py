"""What the walk does to other tasks: KL from the base model, and another task's reward (docs/concepts/drift.md).

Both are local quadratic functions of an isotropic Gaussian displacement of variance v a coordinate. The signal part
of the displacement is left out: it is at most a 1e-6 share of the squared norm of a language model's.
"""

from __future__ import annotations

import math

from estheory._special import chi_square_quantile, normal_quantile
from estheory.citations import ours
from estheory.errors import ConfigError
from estheory.laws import ChiLaw, Law, NormalLaw, PointLaw, SquaredLaw
from estheory.rules import ESConfig, require_nonnegative, require_positive
from estheory.theory.curved.reward_laws import MixedNormalLaw, UnevenSumLaw
from estheory.theory.walk import Walk, checkpoint_correlation

OURS = ours("drift")


def kl_law(
    walk: Walk,
    *,
    fisher_trace: float,
    fisher_square_trace: float | None = None,
    fisher_trace_stderr: float = 0.0,
) -> Law:
    """Return the law of KL(base || tuned): 1/2 v sum_k f_k chi^2_1.

    Its mean is 1/2 v tr F and its relative variance 2 tr F^2 / (tr F)^2, to which fluctuations of v (raw shaping) and
    an error of tr F add as independent factors; its tails are those of the worst spectrum with these two. Without
    ``fisher_square_trace`` the spread over seeds is unknown and only those two factors are in the law.

    Parameters
    ----------
    walk
        The walk after the steps in question. With shared-seed noise, tr F and tr F^2 stand for tr FC and tr (FC)^2,
        which a probe drawn with the run's own noise measures.
    fisher_trace, fisher_square_trace
        tr F and tr F^2 per token, 1/weight^2 and 1/weight^4.
    fisher_trace_stderr
        Standard error of the estimate of tr F, 1/weight^2.

    Returns
    -------
    Law
        Nats per token.

    Raises
    ------
    ConfigError
        If a trace is out of range, or tr F^2 exceeds (tr F)^2.

    Notes
    -----
    Label: small-step. Source: ours: docs/concepts/drift.md. Isotropic displacement; KL quadratic in it.

    Examples
    --------
    >>> from estheory import ESConfig, Signal
    >>> from estheory.theory.walk import walk
    >>> run = ESConfig(dim=4_000_000_000, sigma=0.0015, population=30, steps=100)
    >>> round(kl_law(walk(run, Signal(), 100), fisher_trace=500.0).mean, 6)
    0.000469
    """
    require_positive("fisher-trace", fisher_trace)
    require_nonnegative("fisher-trace-stderr", fisher_trace_stderr)
    mean = 0.5 * walk.variance * fisher_trace
    df = math.inf
    if fisher_square_trace is not None:
        require_positive("fisher-square-trace", fisher_square_trace)
        df = _effective_dimension(fisher_trace, fisher_square_trace)
    relative = fisher_trace_stderr / fisher_trace
    extra = (1 + 2 / walk.mixing_df) * (1 + relative**2) - 1
    mixing_df = 2 / extra if extra else math.inf
    most = walk.most if not relative else math.inf  # an error of tr F has no largest value
    if math.isinf(df):
        df, mixing_df = mixing_df, math.inf
    if fisher_square_trace is not None:
        return UnevenSumLaw(mean, max(df, 1.0), mixing_df, most)
    return PointLaw(mean) if math.isinf(df) else SquaredLaw(ChiLaw(1.0, df), mean / df)


def _effective_dimension(trace: float, square_trace: float) -> float:
    df = trace**2 / square_trace
    if df < 1 - 1e-9:
        raise ConfigError(
            f"fisher-square-trace {square_trace:g} exceeds the square of fisher-trace {trace:g}",
            "tr F^2 <= (tr F)^2 for a positive F: check the units",
        )
    return df


def kl_correlation(config: ESConfig, first: int, second: int) -> float:
    """Return the correlation, over runs, of a run's KL after ``first`` and after ``second`` steps.

    The square of the checkpoints' correlation: T1/T2 for the plain walk.

    Parameters
    ----------
    config
        The run.
    first, second
        The two steps, in either order.

    Returns
    -------
    float
        In [0, 1].

    Raises
    ------
    ConfigError
        With an L1 anchor.

    Notes
    -----
    Label: exact. Source: ours: docs/concepts/drift.md. KL quadratic in the displacement.

    Examples
    --------
    >>> from estheory import ESConfig
    >>> round(kl_correlation(ESConfig(dim=1000, sigma=0.01, population=30), 100, 400), 3)
    0.25
    """
    return checkpoint_correlation(config, first, second) ** 2


def off_task_reward_law(
    walk: Walk,
    *,
    trace: float,
    square_trace: float | None = None,
    gradient_norm: float = 0.0,
) -> Law:
    """Return the law of the change of another task's reward: g.Delta - 1/2 Delta' Lam Delta.

    Mean -1/2 v tr Lam; standard deviation sqrt(v ||g||^2 + 1/2 v^2 tr Lam^2), of which the first-order part is as
    likely to be a gain as a loss. The law is normal: curvatures may have either sign, so that nothing is known of its
    skewness (:func:`off_task_loss_quantile` is safe whatever it is).

    Parameters
    ----------
    walk
        The walk after the steps in question.
    trace, square_trace
        tr Lam and tr Lam^2 of minus the other task's Hessian, reward / weight^2 and its square; without the second its
        part of the spread is left out.
    gradient_norm
        ||g|| of the other task, reward / weight.

    Returns
    -------
    Law
        Reward units.

    Raises
    ------
    ConfigError
        For a value out of range.

    Notes
    -----
    Label: small-step. Source: ours: docs/concepts/drift.md. Isotropic displacement, independent of the other task.

    Examples
    --------
    >>> from estheory import ESConfig, Signal
    >>> from estheory.theory.walk import walk
    >>> run = ESConfig(dim=4_000_000_000, sigma=0.0015, population=30, steps=100)
    >>> law = off_task_reward_law(walk(run, Signal(), 100), trace=1000.0, gradient_norm=3.0)
    >>> round(law.mean, 7), round(law.std, 6)
    (-0.0009375, 0.004108)
    """
    require_nonnegative("|off-task-trace|", abs(trace))
    require_nonnegative("off-task-gradient-norm", gradient_norm)
    require_nonnegative("off-task-square-trace", square_trace or 0.0)
    mean = -0.5 * walk.variance * trace
    linear = math.sqrt(walk.variance) * gradient_norm
    curved = walk.variance * math.sqrt(0.5 * (square_trace or 0.0))
    if not (square_trace or linear):
        return PointLaw(mean)
    if math.isinf(walk.mixing_df):
        return NormalLaw(mean, math.hypot(linear, curved))
    return MixedNormalLaw(mean, curved, linear, walk.mixing_df, walk.most)


def off_task_loss_quantile(
    walk: Walk, *, trace: float, square_trace: float | None, gradient_norm: float, level: float
) -> float:
    """Return a loss of another task's reward that a run stays below with at least the probability ``level``.

    Of all spectra with these traces, one direction that carries the whole variance has the heaviest tail: the mean plus
    (chi^2_1 quantile - 1)/sqrt(2) standard deviations, or the normal quantile where that is larger. Without
    ``square_trace`` the whole trace is taken to be in one direction, which holds for curvatures of one sign.

    Parameters
    ----------
    walk
        The walk after the steps in question.
    trace, square_trace, gradient_norm
        As of :func:`off_task_reward_law`; the trace of a loss, >= 0.
    level
        In [0.5, 1).

    Returns
    -------
    float
        Reward units; a loss is positive.

    Notes
    -----
    Label: small-step. Source: ours: docs/concepts/drift.md.
    """
    mean = 0.5 * walk.variance * trace
    curved = walk.variance * math.sqrt(0.5 * (trace**2 if square_trace is None else square_trace))
    spread = math.hypot(curved, math.sqrt(walk.variance) * gradient_norm)
    score = normal_quantile(level)
    if curved:
        score = max(score, (chi_square_quantile(level, 1.0) - 1) / math.sqrt(2))
    return mean + score * spread


def first_order_share(walk: Walk, *, square_trace: float, gradient_norm: float) -> float:
    """Return the share of the variance of an off-task reward change that is first order.

    It falls along a run as 1/(1 + v tr Lam^2 / (2 ||g||^2)): early changes have a random sign, late ones are losses.

    Parameters
    ----------
    walk
        The walk after the steps in question.
    square_trace
        tr Lam^2 of minus the other task's Hessian, reward^2 / weight^4.
    gradient_norm
        ||g|| of the other task, reward / weight.

    Returns
    -------
    float
        In [0, 1]; 0 where both vanish.

    Notes
    -----
    Label: small-step. Source: ours: docs/concepts/drift.md.
    """
    linear = walk.variance * gradient_norm**2
    total = linear + 0.5 * walk.variance**2 * square_trace
    return linear / total if total else 0.0


def steps_to_kl(config: ESConfig, one_step: Walk, *, fisher_trace: float, budget: float) -> float:
    """Return the number of steps after which the plain walk's mean KL reaches a budget: 2 budget / (v_1 tr F).

    Parameters
    ----------
    config
        The run.
    one_step
        Its walk after one step, of variance v_1.
    fisher_trace
        tr F per token, 1/weight^2.
    budget
        Nats per token.

    Returns
    -------
    float
        Steps, not rounded.

    Raises
    ------
    ConfigError
        With an anchor or momentum, or for a value that is not > 0.

    Notes
    -----
    Label: small-step. Source: ours: docs/concepts/drift.md.

    Examples
    --------
    >>> from estheory import ESConfig, Signal
    >>> from estheory.theory.walk import walk
    >>> run = ESConfig(dim=4_000_000_000, sigma=0.0015, population=30)
    >>> round(steps_to_kl(run, walk(run, Signal(), 1), fisher_trace=500.0, budget=0.01))
    2133
    """
    if config.anchor_l1 or config.anchor_l2 or config.momentum:
        raise ConfigError("steps_to_kl is for the plain walk", "leave anchor and momentum out")
    require_positive("fisher-trace", fisher_trace)
    require_positive("budget", budget)
    return 2 * budget / (one_step.variance * fisher_trace)
