"""The shaping of a rule: the one place where diagnosis and checks ask for it."""

from __future__ import annotations

from estheory._special import Array
from estheory.rules import ESConfig
from estheory.theory.estimators import estimator_of


def shaped(rewards: Array, rule: ESConfig) -> Array:
    """Return the rule's shaped rewards.

    Parameters
    ----------
    rewards
        Of one step's evaluations, shape (n,); R+ and R- of each pair in turn.
    rule
        Its shaping.

    Returns
    -------
    ndarray
        One per evaluation; for two-point one per direction.
    """
    return estimator_of(rule).shape(rewards)


def is_paired(rule: ESConfig) -> bool:
    """Return whether every noise vector is evaluated at both signs.

    Parameters
    ----------
    rule
        Antithetic members, or two-point shaping, are.

    Returns
    -------
    bool
    """
    return estimator_of(rule).paired


def evaluations(rule: ESConfig) -> int:
    """Return the number of rewards of one step: the population, or two a direction for two-point.

    Parameters
    ----------
    rule
        Its population and shaping.

    Returns
    -------
    int
    """
    return estimator_of(rule).evaluations


def direction_weights(rewards: Array, rule: ESConfig) -> Array:
    """Return w of the rule's displacement (alpha/N) sum_k w_k eps_k.

    Parameters
    ----------
    rewards, rule
        As for :func:`shaped`.

    Returns
    -------
    ndarray
        One a noise vector that is drawn: with mirrored members one a pair.
    """
    return estimator_of(rule).noise_weights(shaped(rewards, rule))
