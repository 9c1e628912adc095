"""How far AdamW walks on gradient noise (docs/concepts/es-and-grpo.md)."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from estheory._special import Array, gamma_half_ratio
from estheory.errors import ConfigError
from estheory.rules import require_choice, require_count, require_positive

Schedule = Literal["constant", "linear", "cosine"]


FOLLOWED_STEPS = 20_000
"""Optimiser steps that are followed one by one; what more of them do to k is below 1e-4 and falls as their number."""


def learning_rates(steps: int, schedule: Schedule = "linear", warmup: int = 0) -> Array:
    """Return the learning rate of each step over the peak; linear and cosine decay to 0.

    Parameters
    ----------
    steps
        Number of optimiser steps, at least 1.
    schedule
        ``constant``, ``linear`` or ``cosine``.
    warmup
        Steps over which the rate rises linearly, from 0 at the first, before it decays; fewer than ``steps``.

    Returns
    -------
    ndarray
        Shape (steps,). Rates in [0, 1]; the first after the warm-up is 1.

    Raises
    ------
    ConfigError
        For an unknown schedule, fewer than 1 step, or a warm-up that is not shorter.

    Notes
    -----
    Label: exact. Source: ours: docs/concepts/es-and-grpo.md.

    Examples
    --------
    >>> [float(rate) for rate in learning_rates(4)]
    [1.0, 0.75, 0.5, 0.25]
    """
    require_count("grpo-steps", steps, 1)
    require_choice("grpo-schedule", schedule, ("constant", "linear", "cosine"))
    if not 0 <= warmup < steps:
        raise ConfigError(f"a warm-up of {warmup} in {steps} steps leaves none", "warm up for fewer steps")
    t = np.arange(steps - warmup) / (steps - warmup)
    decay = {"constant": np.ones_like(t), "linear": 1.0 - t, "cosine": 0.5 * (1.0 + np.cos(math.pi * t))}[schedule]
    return np.concatenate([np.arange(warmup) / max(warmup, 1), decay])


def decayed_rates(rates: Array, weight_decay: float) -> tuple[Array, float]:
    """Return the rates that are left at the end under decoupled weight decay, and the share of theta_0 that is lost.

    Delta_T = -lost theta_0 - sum_t left_t u_t, u the normalised updates: E||Delta||^2 is lost^2 ||theta_0||^2 beside
    what ``left`` gives in place of the rates. A step without a gradient decays all the same.

    Parameters
    ----------
    rates
        Learning rates, shape (T,), weight units.
    weight_decay
        AdamW's, per unit of the learning rate.

    Returns
    -------
    left : ndarray, shape (T,)
        lr_t prod_(s > t) (1 - lr_s decay).
    lost : float
        1 - prod_t (1 - lr_t decay).

    Raises
    ------
    ConfigError
        If a step would decay by all of the weights or more, or the decay is negative.

    Notes
    -----
    Label: exact. Source: ours: docs/concepts/es-and-grpo.md.

    Examples
    --------
    >>> left, lost = decayed_rates(np.array([0.5, 0.5]), 0.1)
    >>> left.round(4).tolist(), round(lost, 4)
    ([0.475, 0.5], 0.0975)
    """
    kept = 1 - rates * weight_decay
    if weight_decay < 0 or (kept <= 0).any():
        raise ConfigError(f"a weight decay of {weight_decay:g} leaves no weights at these rates", "give a smaller one")
    later = np.cumprod(kept[::-1])[::-1]
    return np.asarray(rates * later / kept), float(1 - later[0])


def walk_factor(rates: Array, *, beta1: float = 0.9, beta2: float = 0.999, active: Array | None = None) -> float:
    """Return k of E||Delta||^2 = d k sum_t lr_t^2, for AdamW on gradient noise.

    With signs independent of magnitudes only equal-step gradients correlate, and
    E[g_s^2 / sqrt(v_t v_t')] = phi(t) / phi(t'), t <= t', phi(t) = Gamma(t/2 + 1/2) / (Gamma(t/2) sqrt(t/2)),
    which is exact for beta2 -> 1 (t then counts steps); for beta2 < 1, t is replaced by the effective number of steps
    that v averages.

    Parameters
    ----------
    rates
        Learning rates over their peak, shape (T,).
    beta1, beta2
        AdamW's decay rates, in [0, 1).
    active
        Which steps have a gradient at all, shape (T,); in others every group's rewards are equal. All where left out.

    Returns
    -------
    float
        k, about 1 for T >> 1/(1 - beta1), larger for short runs.

    Notes
    -----
    Label: mean-field. Source: ours: docs/concepts/es-and-grpo.md. Assumes dense, independent Gaussian gradients, no
    weight decay and a negligible eps.

    Examples
    --------
    >>> round(walk_factor(learning_rates(80, "linear")), 3)
    1.415
    """
    moved = np.ones(len(rates)) if active is None else np.asarray(active, dtype=np.float64)
    shares = _averages(moved, beta2)
    diagonal = cross = behind = total = 0.0
    for t in range(len(rates), 0, -1):
        share = float(shares[t - 1])
        if share == 0.0:  # nothing has come yet: nothing moves
            break
        phi = kept_mean(t, beta2, share)
        weight = float(rates[t - 1]) / (1 - beta1**t) / math.sqrt(share)
        cross = weight * phi * beta1 * behind + beta1**2 * cross
        diagonal = weight**2 + beta1**2 * diagonal
        behind = weight / phi + beta1 * behind
        total += float(moved[t - 1]) * (diagonal + 2 * cross)
    return (1 - beta1) ** 2 * total / float(rates @ rates)


def _averages(values: Array, beta: float) -> Array:
    """Return the bias-corrected moving average of the values after each step, shape (T,)."""
    found, behind = np.zeros(len(values)), 0.0
    for t, value in enumerate(map(float, values), start=1):
        behind = beta * behind + (1 - beta) * value
        found[t - 1] = behind / (1 - beta**t)
    return found


def kept_mean(step: int, beta2: float = 0.999, share: float = 1.0) -> float:
    """Return phi(t) = E[g_s / sqrt(v_t)] over the gradient's mean in units of its rms: what v leaves of a small mean.

    Parameters
    ----------
    step
        t, from 1.
    beta2
        Decay rate of v, in [0, 1).
    share
        Of the steps so far that had a gradient.

    Returns
    -------
    float
        Within 0 and 1: sqrt(2/pi) at the first step, where a gradient's sign is all that counts.

    Notes
    -----
    Label: mean-field. Source: ours: docs/concepts/es-and-grpo.md. Gaussian gradients whose mean is small beside their
    noise; exact then for beta2 -> 1.

    Examples
    --------
    >>> round(kept_mean(1), 4), round(kept_mean(100), 4)
    (0.7979, 0.9975)
    """
    averaged = max(share * (1 + beta2) / (1 - beta2) * (1 - beta2**step) / (1 + beta2**step), 1.0)
    return gamma_half_ratio(averaged / 2) / math.sqrt(averaged / 2)


def coherent_rates(rates: Array, *, beta1: float = 0.9, beta2: float = 0.999) -> Array:
    """Return how far AdamW goes along the mean of each gradient, in units of its rms, by the end of the steps.

    Parameters
    ----------
    rates
        Learning rates, shape (T,).
    beta1, beta2
        AdamW's decay rates, in [0, 1).

    Returns
    -------
    ndarray
        sum_(t >= s) lr_t phi(t) (1 - beta1) beta1^(t-s) / (1 - beta1^t), shape (T,), in the unit of ``rates``.

    Notes
    -----
    Label: mean-field. Source: ours: docs/concepts/es-and-grpo.md.

    Examples
    --------
    >>> float(coherent_rates(np.ones(2)).round(3)[0])
    1.218
    """
    found, behind = np.zeros(len(rates)), 0.0
    for t in range(len(rates), 0, -1):
        behind = float(rates[t - 1]) * kept_mean(t, beta2) / (1 - beta1**t) + beta1 * behind
        found[t - 1] = (1 - beta1) * behind
    return found


def grpo_mean_square(dim: int, lr: float, steps: int, schedule: Schedule = "linear") -> float:
    """Return E||Delta||^2 = d k(T) sum_t lr_t^2 of an AdamW run on dense gradient noise.

    Sparse gradients move less and a persistent signal adds a ballistic part; neither is included.

    Parameters
    ----------
    dim
        Number of trainable parameters d.
    lr
        Peak learning rate, weight units.
    steps
        Number of optimiser steps.
    schedule
        ``constant``, ``linear`` or ``cosine``.

    Returns
    -------
    float
        Mean square of the displacement, weight^2.

    Raises
    ------
    ConfigError
        If ``lr`` is not > 0, or the schedule is unknown.

    Notes
    -----
    Label: mean-field. Source: ours: docs/concepts/es-and-grpo.md. Assumptions of :func:`walk_factor`.

    Examples
    --------
    >>> round(grpo_mean_square(4_022_468_096, lr=3e-6, steps=80) ** 0.5, 4)
    1.1797
    """
    require_positive("grpo-lr", lr)
    rates = learning_rates(min(steps, FOLLOWED_STEPS), schedule)
    factor, squares = walk_factor(rates), float(rates @ rates)
    if steps > FOLLOWED_STEPS:  # k - 1 falls as 1/T
        require_count("grpo-steps", steps, 1)
        factor = 1 + (factor - 1) * FOLLOWED_STEPS / steps
        squares = {
            "constant": float(steps),
            "linear": (steps + 1) * (2 * steps + 1) / (6 * steps),
            "cosine": 0.375 * steps + 0.5,
        }[schedule]
    return dim * factor * lr**2 * squares


def steered_mean_square(
    dim: int, lr: float, steps: int, schedule: Schedule = "linear", *, kappa: float, turning: float = 1.0
) -> float:
    """Return E||Delta||^2 = d lr^2 [kappa sum_st w_s w_t cos(s, t) + (1 - kappa) k sum_t h_t^2] of AdamW with a signal.

    Parameters
    ----------
    dim, lr, steps, schedule
        As for :func:`grpo_mean_square`; every step is followed, so at most ``FOLLOWED_STEPS``.
    kappa
        Mean over coordinates of mu_j^2 / (mu_j^2 + s_j^2), the share of a minibatch gradient's square that minibatches
        have in common, in [0, 1].
    turning
        Cosine of what is common with that one step before, in [0, 1]; cos(s, t) is its power.

    Returns
    -------
    float
        Mean square of the displacement, weight^2.

    Raises
    ------
    ConfigError
        As for :func:`grpo_mean_square`; for more than ``FOLLOWED_STEPS`` steps, or kappa or turning outside [0, 1].

    Notes
    -----
    Label: mean-field. Source: ours: docs/concepts/es-and-grpo.md. Assumptions of :func:`walk_factor`, and a mean of the
    gradient that keeps its size; w is :func:`coherent_rates` of the schedule h.

    Examples
    --------
    >>> walk, half = (steered_mean_square(1, 1.0, 100, "constant", kappa=kappa) for kappa in (0.0, 0.5))
    >>> round(half / walk)
    44
    """
    require_positive("grpo-lr", lr)
    if steps > FOLLOWED_STEPS:
        raise ConfigError(f"{steps} optimiser steps cannot be followed one by one", f"give at most {FOLLOWED_STEPS}")
    for name, value in (("kappa", kappa), ("turning", turning)):
        if not 0 <= value <= 1:
            raise ConfigError(f"{name} must be within 0 and 1, not {value:g}", "give a share")
    rates = learning_rates(steps, schedule)
    behind = pairs = 0.0
    for rate in map(float, coherent_rates(rates)):
        behind *= turning
        pairs += rate**2 + 2 * rate * behind
        behind += rate
    return dim * lr**2 * (kappa * pairs + (1 - kappa) * walk_factor(rates) * float(rates @ rates))
