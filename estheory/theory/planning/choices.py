"""What a plan may choose from: sigmas, step sizes, populations, steps, and the arms that they make."""

from __future__ import annotations

from dataclasses import dataclass, replace

from estheory.errors import ConfigError
from estheory.landscape import Signal, linear_signal
from estheory.rules import ESConfig, require_count, require_positive
from estheory.theory.planning.targets import Arm, arm

DEFAULT_SIGMAS = (5e-4, 1e-3, 1.5e-3, 2e-3, 5e-3)
WEIGHT_FRACTIONS = (0.025, 0.05, 0.1, 0.2)
"""Default sigmas over the standard deviation of the weights, where that is known."""
DEFAULT_POPULATIONS = tuple(sorted({2 * round(2 ** (k / 4 - 1)) for k in range(12, 65)}))
"""8 to 65,536, even, by steps of 2^(1/4)."""
DEFAULT_MAX_EVALUATIONS = 10_000_000
LARGEST = 10**15
"""Largest N T that is searched."""


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What the search may choose from; empty where it is free.

    Attributes
    ----------
    sigmas
        Never empty.
    alphas
        Empty: any step size up to sigma, beyond which a step leaves the neighbourhood that its members sampled.
    populations
        Empty: DEFAULT_POPULATIONS, refined around the best.
    steps
        Empty: any number.
    max_evaluations
        Largest N T.
    """

    sigmas: tuple[float, ...] = DEFAULT_SIGMAS
    alphas: tuple[float, ...] = ()
    populations: tuple[int, ...] = ()
    steps: tuple[int, ...] = ()
    max_evaluations: int = DEFAULT_MAX_EVALUATIONS

    def __post_init__(self) -> None:
        """Check every field."""
        if not self.sigmas:
            raise ConfigError("no sigma to choose from", "give at least one")
        for name, values in (("sigma", self.sigmas), ("alpha", self.alphas)):
            for value in values:
                require_positive(name, value)
        for name, counts, least in (("population", self.populations, 2), ("steps", self.steps, 1)):
            for count in counts:
                require_count(name, count, least)
        require_count("max-evaluations", self.max_evaluations, 2)
        if min(self.populations, default=2) * min(self.steps, default=1) > self.max_evaluations:
            raise ConfigError(
                f"population {min(self.populations, default=2)} times steps {min(self.steps, default=1)} exceeds "
                f"max-evaluations {self.max_evaluations}",
                "raise --max-evaluations, or lower one of them",
            )


def default_sigmas(weight_std: float | None) -> tuple[float, ...]:
    """Return WEIGHT_FRACTIONS of the weights' standard deviation, or DEFAULT_SIGMAS where it is unknown.

    Parameters
    ----------
    weight_std
        Standard deviation of the weights, weight units; None where it is unknown.

    Returns
    -------
    tuple of float
        Perturbation scales, weight units.

    Raises
    ------
    ConfigError
        If ``weight_std`` is not > 0.

    Notes
    -----
    No label: a declared choice, not a result.
    """
    if weight_std is None:
        return DEFAULT_SIGMAS
    require_positive("weight-std", weight_std)
    return tuple(fraction * weight_std for fraction in WEIGHT_FRACTIONS)


def linear_arms(base: ESConfig, choices: Choices, gradient_norm: float, reward_std: float) -> tuple[Arm, ...]:
    """Return the arms of a linear reward, largest sigma first: rho = sigma g / sqrt(sigma^2 g^2 + s^2).

    Parameters
    ----------
    base
        Everything but sigma and population.
    choices
        What may be chosen.
    gradient_norm
        g, reward / weight.
    reward_std
        s, reward units.

    Returns
    -------
    tuple of Arm
        One a sigma and population.

    Raises
    ------
    ConfigError
        For a value out of range.
    """
    signals = {s: linear_signal(sigma=s, gradient_norm=gradient_norm, reward_std=reward_std) for s in choices.sigmas}
    return arms(base, choices, signals)


def arms(base: ESConfig, choices: Choices, signals: dict[float, Signal]) -> tuple[Arm, ...]:
    """Return an arm for every sigma and population, largest sigma first.

    Parameters
    ----------
    base
        Everything but sigma and population.
    choices
        What may be chosen.
    signals
        The linear signal at each sigma.

    Returns
    -------
    tuple of Arm
        One a sigma and population.
    """
    return tuple(
        arm(replace(base, sigma=sigma, population=n), signals[sigma])
        for sigma in sorted(signals, reverse=True)
        for n in choices.populations or DEFAULT_POPULATIONS
    )
