"""Configurations of evolution strategies, and what other codes' step sizes mean in them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Literal, get_args

from estheory.errors import ConfigError, did_you_mean

Shaping = Literal["zscore", "centered-rank", "raw", "two-point"]
AnchorForm = Literal["before", "after"]
Dtype = Literal["float32", "bfloat16", "float16"]
UpdatePath = Literal["accumulated", "sequential"]
Arithmetic = Literal["rounded", "fused", "es-awd"]
"""Whose rounded operations a 16-bit step follows: the reference code's, ``estheory run``'s, or es-awd's."""

SMALLEST_POPULATION: Final[Mapping[Shaping, int]] = {"zscore": 2, "centered-rank": 2, "raw": 2, "two-point": 1}
"""Fewest independent members of a step: two where only the spread of their rewards moves anything."""
MIRRORED_SHAPINGS: Final[tuple[Shaping, ...]] = ("zscore",)
"""Shapings of which mirrored pairs have results."""
SMALLEST_MIRRORED = 4
"""Fewest members in mirrored pairs: one pair has no spread of rewards."""

_NOISE = re.compile(r"gaussian|shared-seed|low-rank:[1-9][0-9]*")


SMALLEST, LARGEST = 1e-30, 1e30
"""Range of a quantity's size: so wide that no real run leaves it, so narrow that no product here overflows."""
LARGEST_COUNT = 10**15
"""Counts up to this are exact as floats."""


def require_positive(name: str, value: float) -> None:
    """Refuse a value that is not > 0, within the range of sizes."""
    if not SMALLEST <= value <= LARGEST:
        raise ConfigError(
            f"{name} must be a number > 0 ({SMALLEST:g} to {LARGEST:g}), got {value}", f"set {name} to such a number"
        )


def require_nonnegative(name: str, value: float) -> None:
    """Refuse a value that is neither 0 nor > 0 within the range of sizes."""
    if value != 0 and not SMALLEST <= value <= LARGEST:
        raise ConfigError(
            f"{name} must be a finite number >= 0, got {value}", f"0, or {SMALLEST:g} to {LARGEST:g}, is in range"
        )


def require_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse a value that is none of some."""
    if value not in choices:
        hint = f"{did_you_mean(value, choices)}choose one of {', '.join(choices)}"
        raise ConfigError(f"{name} '{value}' is unknown", hint)


def require_count(name: str, value: float, minimum: int, maximum: int = LARGEST_COUNT) -> None:
    """Refuse a value that is no whole number of a range."""
    if not (math.isfinite(value) and value == int(value) and minimum <= value <= maximum):
        bound = f"of at most {maximum:.0e}" if value > maximum else f">= {minimum}"
        raise ConfigError(f"{name} must be a whole number {bound}, got {value:.16g}", f"set {name} to such a number")


def require_seed(value: int) -> None:
    """Refuse a value that is no whole number from 0 to 2^64 - 1."""
    require_count("seed", value, 0, 2**64 - 1)


@dataclass(frozen=True, kw_only=True)
class ESRule:
    """What a configuration of evolution strategies and a run of it have in common.

    Attributes
    ----------
    sigma, alpha, population, shaping, antithetic, noise, anchor_l2, anchor_l1, anchor_form, momentum
        As in `ESConfig`.
    dtype, update_path, restore_pairs
        As in `ESConfig`.
    """

    sigma: float = field(metadata={"help": "Perturbation scale, in weight units."})
    alpha: float | None = field(default=None, metadata={"help": "Step size, in weight units (default sigma/2)."})
    population: int = field(metadata={"help": "Members evaluated per step, N."})
    shaping: Shaping = field(default="zscore", metadata={"help": "How rewards become weights of the members."})
    antithetic: bool = field(default=False, metadata={"help": "The N members are N/2 pairs theta +- sigma eps."})
    noise: str = field(
        default="gaussian",
        metadata={
            "help": "gaussian | low-rank:R | shared-seed (same noise in tensors of one size).",
            "metavar": "<kind>",
        },
    )
    anchor_l2: float = field(
        default=0.0, metadata={"help": "Pull toward the start per step, as a share of the displacement."}
    )
    anchor_l1: float = field(
        default=0.0, metadata={"help": "Constant pull toward the start per step, in weight units."}
    )
    anchor_form: AnchorForm = field(
        default="before", metadata={"help": "Pull toward the start before or after the new step is added."}
    )
    momentum: float = field(default=0.0, metadata={"help": "Heavy-ball momentum B; the new step is weighted 1-B."})
    dtype: Dtype = field(default="float32", metadata={"help": "How the weights are stored and updated."})
    update_path: UpdatePath = field(
        default="accumulated", metadata={"help": "Sum the members' updates first, or add them one by one."}
    )
    restore_pairs: int = field(
        default=0,
        metadata={
            "help": "In-place perturb/restore operations per step on the trained weights (they leave rounding residue)."
        },
    )


@dataclass(frozen=True, kw_only=True)
class ESConfig(ESRule):
    """One configuration of evolution strategies, in the canonical convention theta += (alpha/N) sum_i z_i eps_i.

    Attributes
    ----------
    dim
        Number of trainable parameters d; tied tensors count once.
    sigma
        Perturbation scale, in weight units: member i is theta + sigma eps_i.
    population
        N: members evaluated per step. With ``two-point`` it counts directions, each evaluated at both signs.
    alpha
        Step size, in weight units; sigma / 2 when not given. With ``raw`` and ``two-point`` shaping it multiplies an
        estimate of the gradient and has the unit weight^2 / reward.
    steps
        T.
    shaping
        ``zscore``: (R - mean) / population std. ``centered-rank``: rank/(N-1) - 1/2. ``raw``: (R - mean) / sigma.
        ``two-point``: (R+ - R-)/(2 sigma), uncentred, as MeZO.
    antithetic
        The N members are N/2 pairs theta +- sigma eps (z-score shaping).
    noise
        ``gaussian``, ``low-rank:R`` (EGGROLL: A B' / sqrt(R) per matrix) or ``shared-seed`` (one generator re-seeded
        for every tensor, so that tensors of equal size share their noise).
    anchor_l2, anchor_l1
        kappa of the pull toward theta_0 per step: proportional (L2) or constant (L1, weight units).
    anchor_form
        ``before``: the pull is not applied to the new step; ``after``: it is (es-awd).
    momentum
        beta of heavy-ball momentum with the (1 - beta) convention.
    dtype, update_path, restore_pairs
        How weights are stored and updated, and the number of perturb-restore pairs per step on the updated copy.

    Raises
    ------
    ConfigError
        For any value outside its range, and for combinations that no result covers.

    Examples
    --------
    >>> run = ESConfig(dim=4_022_468_096, sigma=0.0015, population=30, steps=100)
    >>> run.alpha, run.shaping
    (0.00075, 'zscore')
    """

    dim: int
    steps: int = field(default=1, metadata={"help": "Number of steps, T."})

    def __post_init__(self) -> None:
        """Check every field."""
        require_count("dim", self.dim, 1)
        require_positive("sigma", self.sigma)
        if self.alpha is None:
            object.__setattr__(self, "alpha", self.sigma / 2)
        require_positive("alpha", self.step_size)
        require_choice("shaping", self.shaping, get_args(Shaping))
        require_choice("anchor-form", self.anchor_form, get_args(AnchorForm))
        require_choice("dtype", self.dtype, get_args(Dtype))
        require_choice("update-path", self.update_path, get_args(UpdatePath))
        smallest = SMALLEST_POPULATION[self.shaping]
        if self.population == 1 < smallest:
            raise ConfigError("population 1 has no spread of rewards", "set population to 2 or more")
        require_count("population", self.population, smallest)
        require_count("steps", self.steps, 1)
        require_count("restore-pairs", self.restore_pairs, 0)
        if not _NOISE.fullmatch(self.noise):
            raise ConfigError(f"noise '{self.noise}' is unknown", "choose gaussian, low-rank:R or shared-seed")
        for name, kappa in (("anchor-l2", self.anchor_l2), ("anchor-l1", self.anchor_l1)):
            if not (math.isfinite(kappa) and kappa >= 0):
                raise ConfigError(f"{name} must be a finite number >= 0, got {kappa}", f"set {name} to 0 or more")
        if not self.anchor_l2 < 1:
            raise ConfigError(f"anchor-l2 must be below 1, got {self.anchor_l2}", "a pull of 1 undoes every step")
        if not 0 <= self.momentum < 1:
            raise ConfigError(f"momentum must lie in [0, 1), got {self.momentum}", "0.9 is common")
        if self.anchor_l1 and (self.anchor_l2 or self.momentum):
            raise ConfigError("anchor-l1 with anchor-l2 or momentum has no result here", "use one of them")
        if self.antithetic:
            if self.shaping not in MIRRORED_SHAPINGS:
                raise ConfigError(
                    f"antithetic members with {self.shaping} shaping have no result here",
                    "use zscore, or two-point for uncentred pairs",
                )
            if self.population % 2 or self.population < SMALLEST_MIRRORED:
                raise ConfigError(
                    f"antithetic needs an even population of at least {SMALLEST_MIRRORED}, got {self.population}",
                    "N members are N/2 pairs",
                )

    @property
    def step_size(self) -> float:
        """Alpha as a number (sigma / 2 when it was not given)."""
        assert self.alpha is not None  # set by __post_init__
        return self.alpha

    @property
    def noise_rank(self) -> int | None:
        """The rank of low-rank noise, or None."""
        return int(self.noise.split(":")[1]) if self.noise.startswith("low-rank") else None


class UpdateConvention(Enum):
    """What a code base calls its step size, and the canonical alpha that makes the same update.

    The canonical update is theta += (alpha/N) sum_i z_i eps_i (:class:`ESConfig`). The conversions hold for plain SGD
    as the outer optimiser.

    Examples
    --------
    >>> UpdateConvention.SALIMANS.canonical_alpha(1.5e-6, sigma=0.0015, population=30)
    0.001
    """

    CANONICAL = "canonical"
    """es-at-scale, ESvsGRPO, es-awd: alpha * mean(z_i eps_i); sigma does not divide."""
    SALIMANS = "salimans"
    """Salimans et al. 2017, evosax Open_ES: step/(N sigma) sum z_i eps_i."""
    EGGROLL = "eggroll"
    """HyperscaleES: step * sqrt(N) * mean(z_i sigma E_i)."""

    def _factor(self, sigma: float, population: int) -> float:
        require_positive("sigma", sigma)
        require_count("population", population, 1)
        if self is UpdateConvention.SALIMANS:
            return 1.0 / sigma
        if self is UpdateConvention.EGGROLL:
            return sigma * math.sqrt(population)
        return 1.0

    def canonical_alpha(self, step_size: float, *, sigma: float, population: int) -> float:
        """Return the canonical alpha of a run.

        Parameters
        ----------
        step_size
            What the code calls its step size.
        sigma
            Perturbation scale, weight units.
        population
            N.

        Returns
        -------
        float
            Weight units.

        Raises
        ------
        ConfigError
            For a value out of range.
        """
        require_positive("step size", step_size)
        return step_size * self._factor(sigma, population)

    def step_size(self, alpha: float, *, sigma: float, population: int) -> float:
        """Return what the code calls its step size.

        Parameters
        ----------
        alpha
            The canonical step size, weight units.
        sigma
            Perturbation scale, weight units.
        population
            N.

        Returns
        -------
        float
            In the code's unit.

        Raises
        ------
        ConfigError
            For a value out of range.
        """
        require_positive("alpha", alpha)
        return alpha / self._factor(sigma, population)


def module_factors(entries: Sequence[str], names: Sequence[str]) -> tuple[float, ...]:
    """Return the factor of sigma of each tensor: of some entries the first whose pattern is in its name.

    `entries`: ``PATTERN=FACTOR`` each; a pattern is a regular expression.
    `names`: the tensors; with none, the entries are only checked.
    Result: in the order of ``names``, 1 where no pattern matches; empty where there are no entries.

    Examples
    --------
    >>> module_factors(["attn=0.5"], ["layer.attn.q", "layer.mlp.up"])
    (0.5, 1.0)
    """
    table = []
    for entry in entries:
        pattern, _, factor = entry.rpartition("=")
        try:
            table.append((re.compile(pattern), float(factor)))
        except (re.error, ValueError) as error:
            raise ConfigError(f"module-sigma {entry!r} is unusable ({error})", "give PATTERN=FACTOR") from error
        if not pattern:
            raise ConfigError(f"module-sigma {entry!r} has no pattern", "give PATTERN=FACTOR")
        require_positive(f"the factor of module-sigma {pattern!r}", table[-1][1])
    if not table or not names:
        return ()
    for entry, (expression, _) in zip(entries, table, strict=True):
        if not any(expression.search(name) for name in names):
            raise ConfigError(f"module-sigma {entry!r} matches no trained tensor", "correct the pattern")
    return tuple(next((f for expression, f in table if expression.search(name)), 1.0) for name in names)
