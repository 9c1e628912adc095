"""Rewards beyond the quadratic: where the theory's assumptions may break.

Both engines know of every member its value Q of the quadratic, R - R* at its perturbed parameters, and on request its
coordinates along the explicit directions: one a curved row of the landscape, along the row's offset (all of a row of
multiplicity 1). A reward is any function of these, and any law of one evaluation around it; some have names
(:mod:`estheory.simulation.named_rewards`).

A reward carries what a user would tell theory of it: gradient and curvature of its mean at the start, and the spread
of one evaluation there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from estheory._special import Array
from estheory.landscape import Landscape
from estheory.rules import ESConfig
from estheory.theory.estimators import estimator_of

MeanReward = Callable[[Array, Array], Array]
"""Expected reward of (Q, coordinates), shapes (..., n) and (..., n, r) to (..., n)."""
Outcome = Callable[[Array, np.random.Generator], Array]
"""One evaluation of each of an array of expected rewards."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Reward:
    """A reward on a landscape.

    Attributes
    ----------
    mean
        Expected reward, from the quadratic's value Q = R - R* and the explicit coordinates theta - theta*.
    outcome
        One evaluation of it, everything random but the perturbation.
    told
        What theory is told: the quadratic expansion of ``mean`` at the start, and s there.
    optimum
        ``mean`` at the optimum of ``told``; rewards are reported as their difference to it.
    explicit
        Whether ``mean`` needs the coordinates (otherwise their last axis is empty).
    warnings
        What ``told`` leaves out.
    """

    mean: MeanReward
    outcome: Outcome
    told: Landscape
    optimum: float = 0.0
    explicit: bool = False
    warnings: tuple[str, ...] = ()


def evaluation(
    reward: Reward, config: ESConfig, quadratic: Array, position: Array, shift: Array, rng: np.random.Generator
) -> Callable[[Array], Array]:
    """Return what evaluates the members of a step, whatever their reward.

    `reward`, `config`: what is evaluated; paired members are theta + sigma eps and theta - sigma eps in turn.
    `quadratic`, `position`: Q and the explicit coordinates at the centre, shapes (replicas,) and (replicas, r).
    `shift`: explicit coordinates of eps, shape (replicas, draws, r).
    Result: from the members' varying parts of Q, shape (replicas, evaluations), to their rewards, of that shape.
    """
    coordinates = position[:, None] + estimator_of(config).in_turn(config.sigma * shift)
    return lambda varying: reward.outcome(reward.mean(quadratic[:, None] + varying, coordinates), rng)


def gaussian_outcome(std: float) -> Outcome:
    """Return Gaussian reward noise."""
    return lambda mean, rng: mean + std * rng.standard_normal(mean.shape) if std else mean


def explicit_reward(
    landscape: Landscape, mean: Callable[[Array], Array], *, optimum: float = 0.0, outcome: Outcome | None = None
) -> Reward:
    """Return an arbitrary reward of r explicit coordinates; whatever ``landscape`` leaves out is flat.

    `landscape`: its curved rows are the coordinates (multiplicity 1: the coordinate itself; more: along the row's
    offset), and it is what theory is told.
    `mean`: from theta - theta*, shape (replicas, members, r), to expected rewards, (replicas, members). The start is at
    minus the offsets.
    `outcome`: law of one evaluation; Gaussian noise of the landscape's ``reward_std`` when not given.

    Examples
    --------
    >>> land = Landscape(dim=10**9, eigenvalue=[2.0], multiplicity=[1], offset=[1.0], reward_std=0.1)
    >>> cosine = explicit_reward(land, lambda x: np.cos(x[..., 0]), optimum=1.0)
    >>> float(cosine.mean(np.zeros(1), np.zeros((1, 1)))[0])
    1.0
    """
    return Reward(
        mean=lambda quadratic, coordinates: mean(coordinates),
        outcome=outcome or gaussian_outcome(landscape.reward_std),
        told=landscape,
        optimum=optimum,
        explicit=True,
    )
