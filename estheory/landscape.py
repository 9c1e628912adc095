"""What is known of the reward around the model: its linear signal, and its curvature.

Constructors of landscapes (presets, files, probes) are in :mod:`estheory.theory.curved.spectra`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np

from estheory._special import Array
from estheory.errors import ConfigError
from estheory.rules import LARGEST, SMALLEST, require_count, require_nonnegative, require_positive


@dataclass(frozen=True, kw_only=True)
class Signal:
    """The linear signal in one member's reward; any of it may be unknown.

    Attributes
    ----------
    reliability
        rho^2 = sigma^2 ||g||^2 / S^2, the share of the variance of a member's reward that its linear signal explains.
    gradient_norm
        ||g||, in reward per weight.
    member_std
        S, the standard deviation of one member's reward, in reward units: S^2 = sigma^2 ||g||^2 + s^2.
    even_share
        Share of S^2 in what both members of an antithetic pair have in common: curvature; 0 for a linear reward.
    sigma
        Perturbation scale at which ``reliability`` and ``member_std`` hold, weight units; a run of another is refused.
    """

    reliability: float | None = None
    gradient_norm: float | None = None
    member_std: float | None = None
    even_share: float = 0.0
    sigma: float | None = None

    def require_sigma(self, sigma: float) -> None:
        """Refuse a run whose perturbation scale is not the signal's.

        Parameters
        ----------
        sigma
            Of the run, weight units.

        Raises
        ------
        ConfigError
            Where it differs from the signal's own.
        """
        if self.sigma is not None and not math.isclose(self.sigma, sigma, rel_tol=1e-9):
            raise ConfigError(
                f"the signal is that of sigma {self.sigma:g}, the run has sigma {sigma:g}",
                f"make the signal with linear_signal(sigma={sigma:g}, ...), from a gradient norm and a reward std",
            )

    @property
    def correlation(self) -> float | None:
        """rho, the correlation of a member's reward with its linear signal."""
        return None if self.reliability is None else math.sqrt(self.reliability)

    @property
    def kappa(self) -> float:
        """Minus the correlation of the two rewards of an antithetic pair; an unknown reliability counts as 0."""
        return max((self.reliability or 0.0) - self.even_share, 1e-12 - 1.0)  # -1: rewards without odd part


def linear_signal(
    *,
    sigma: float,
    reliability: float | None = None,
    gradient_norm: float | None = None,
    reward_std: float | None = None,
) -> Signal:
    """Resolve what is known of a linear reward into a :class:`Signal`.

    Parameters
    ----------
    sigma
        Perturbation scale, weight units.
    reliability
        rho^2 in [0, 1].
    gradient_norm
        ||g|| > 0, reward / weight.
    reward_std
        s >= 0, reward units: the standard deviation of a member's reward from everything but its perturbation.

    Returns
    -------
    Signal
        With all that any two of the three determine.

    Raises
    ------
    ConfigError
        If a value is out of range, or all three are given and disagree by more than 1e-6 in rho^2.

    Notes
    -----
    Label: exact. Source: ours: docs/concepts/signal.md. Linear reward, where S^2 = sigma^2 ||g||^2 + s^2.

    Examples
    --------
    >>> signal = linear_signal(sigma=0.01, gradient_norm=3.0, reward_std=0.04)
    >>> round(signal.reliability, 3), round(signal.member_std, 3)
    (0.36, 0.05)
    """
    require_positive("sigma", sigma)
    if reliability is not None and not 0 <= reliability <= 1:
        raise ConfigError(f"reliability must lie in [0, 1], got {reliability}", "it is rho^2, a share of variance")
    if reliability is not None:
        require_nonnegative("reliability", reliability)
    if gradient_norm is not None:
        require_positive("gradient-norm", gradient_norm)
    if reward_std is not None:
        require_nonnegative("reward-std", reward_std)
    if gradient_norm is not None and reward_std is not None:
        member_std = math.hypot(sigma * gradient_norm, reward_std)
        implied = (sigma * gradient_norm / member_std) ** 2
        if reliability is not None and abs(reliability - implied) > 1e-6:
            raise ConfigError(
                f"reliability {reliability} contradicts gradient-norm and reward-std, which imply {implied:.6g}",
                "give two of the three",
            )
        return Signal(reliability=implied, gradient_norm=gradient_norm, member_std=member_std, sigma=sigma)
    if reliability is None:
        return Signal(gradient_norm=gradient_norm, sigma=sigma)
    if gradient_norm is not None and reliability > 0:
        member_std = sigma * gradient_norm / math.sqrt(reliability)
        return Signal(reliability=reliability, gradient_norm=gradient_norm, member_std=member_std, sigma=sigma)
    if gradient_norm is not None:
        raise ConfigError("reliability 0 contradicts a gradient-norm above 0", "give one of the two")
    if reward_std is not None and reliability < 1:
        member_std = reward_std / math.sqrt(1 - reliability)
        return Signal(
            reliability=reliability,
            gradient_norm=member_std * math.sqrt(reliability) / sigma if reliability else None,
            member_std=member_std,
            sigma=sigma,
        )
    return Signal(reliability=reliability, sigma=sigma)


_STEEPEST = 1e60
"""Largest lam^3 offset^2 of a row, reward^3 / weight^4: its square is a number still."""
_ROW_REMEDY = {
    "eigenvalue": "it is the curvature of a maximum, a finite number >= 0 (a saddle has no law here)",
    "multiplicity": "it is a number of directions, whole and >= 0",
    "offset": "it is the distance |theta_k - theta*_k| per direction, a finite number >= 0",
}


def _checked_rows(name: str, values: Array) -> Array:
    """Return ``values`` as a read-only float array, shape (m,), or raise ConfigError naming row and value."""
    try:
        rows = np.array(values, dtype=np.float64, ndmin=1)
    except (TypeError, ValueError):
        raise ConfigError(f"the {name} column does not hold numbers", _ROW_REMEDY[name]) from None
    if rows.ndim != 1:
        raise ConfigError(f"{name} must have one value per row, got shape {rows.shape}", _ROW_REMEDY[name])
    # the tail of a spectrum may be tiny, but its squares must be numbers
    bad = ~((rows == 0) | (rows >= SMALLEST**3) & (rows <= LARGEST))
    if name == "multiplicity":
        bad |= rows != np.floor(rows)
    if bad.any():
        row = int(np.argmax(bad))
        raise ConfigError(f"row {row + 1}: {name} {rows[row]:g} is not allowed", _ROW_REMEDY[name])
    rows.setflags(write=False)
    return rows


@dataclass(frozen=True, kw_only=True, eq=False)
class Landscape:
    """A locally quadratic on-task reward, R = R* - 1/2 sum_k lam_k (theta_k - theta*_k)^2 plus noise.

    Directions of equal curvature and offset share a row, so a landscape of 1e12 dimensions costs as much as its rows.
    What the rows do not cover is flat.

    Attributes
    ----------
    dim
        Number of parameters d.
    eigenvalue
        lam_k >= 0, shape (m,), reward / weight^2: eigenvalues of minus the Hessian.
    multiplicity
        Number of directions of each row, shape (m,), whole; they sum to at most ``dim``.
    offset
        |theta_k - theta*_k| of each direction of a row at the start, shape (m,), weight units.
    reward_std
        s >= 0, reward units: standard deviation of one member's reward from everything but its perturbation.
    fisher_trace, fisher_square_trace, fisher_trace_stderr
        tr F and tr F^2 of the off-task Fisher information (nat per token and weight^2, and its square), and the
        standard error of the estimate of tr F.
    off_task_trace, off_task_square_trace, off_task_gradient_norm
        tr Lam_off (any sign) and tr Lam_off^2 of minus the Hessian of another task's reward, and ||g_off||.

    Raises
    ------
    ConfigError
        For a value out of range, naming its row.

    Examples
    --------
    >>> two = Landscape(dim=10**12, eigenvalue=[10, 0.05], multiplicity=[5, 400], offset=[0.3, 0], reward_std=0.02)
    >>> two.trace, two.gap
    (70.0, 2.25)
    """

    dim: int
    eigenvalue: Array
    multiplicity: Array
    offset: Array
    reward_std: float = 0.0
    fisher_trace: float | None = None
    fisher_square_trace: float | None = None
    fisher_trace_stderr: float = 0.0
    off_task_trace: float | None = None
    off_task_square_trace: float | None = None
    off_task_gradient_norm: float | None = None

    def __post_init__(self) -> None:
        """Check every field; freeze the arrays."""
        require_count("dim", self.dim, 1)
        object.__setattr__(self, "dim", int(self.dim))
        for name in _ROW_REMEDY:
            object.__setattr__(self, name, _checked_rows(name, getattr(self, name)))
        sizes = {self.eigenvalue.size, self.multiplicity.size, self.offset.size}
        if len(sizes) > 1 or sizes == {0}:
            got = f"{self.eigenvalue.size}, {self.multiplicity.size} and {self.offset.size}"
            raise ConfigError(
                f"got {got} eigenvalues, multiplicities and offsets", "give each row its three, in at least one row"
            )
        if (total := float(np.sum(self.multiplicity))) > self.dim:
            raise ConfigError(
                f"multiplicities sum to {total:.12g}, more than dim {self.dim}", "lower a multiplicity, or raise dim"
            )
        with np.errstate(over="ignore"):
            steepest = float(np.max(self.eigenvalue * (self.eigenvalue * self.offset) ** 2))
        if not (steepest <= _STEEPEST and float(np.max(self.eigenvalue)) <= math.sqrt(LARGEST)):
            raise ConfigError(
                "eigenvalues and offsets are so large that their products overflow", "choose a smaller unit of weight"
            )
        for name in (field.name for field in fields(self) if field.name not in ("dim", *_ROW_REMEDY)):
            value = getattr(self, name)
            if value is not None:
                option = name.replace("_", "-")
                # the trace of a Hessian may have either sign
                if name == "off_task_trace":
                    require_nonnegative(f"|{option}|", abs(value))
                else:
                    require_nonnegative(option, value)

    @cached_property
    def trace(self) -> float:
        """The trace tr Lam, reward / weight^2."""
        return float(self.multiplicity @ self.eigenvalue)

    @cached_property
    def square_trace(self) -> float:
        """The trace of the square, tr Lam^2, reward^2 / weight^4."""
        return float(self.multiplicity @ self.eigenvalue**2)

    @cached_property
    def gradient(self) -> Array:
        """|g_k| = lam_k offset_k of each direction of a row, shape (m,), reward / weight."""
        return self.eigenvalue * self.offset

    @cached_property
    def gradient_norm(self) -> float:
        """||g||, reward / weight."""
        return math.sqrt(float(self.multiplicity @ self.gradient**2))

    @cached_property
    def gradient_curvature(self) -> float:
        """The curvature along the gradient, g' Lam g, reward^3 / weight^4."""
        return float(self.multiplicity @ (self.eigenvalue * self.gradient**2))

    @property
    def gap(self) -> float:
        """R* - R at the start, reward units: 1/2 sum_k lam_k offset_k^2."""
        return 0.5 * float(self.multiplicity @ (self.eigenvalue * self.offset**2))

    def constant_variance(self, sigma: float) -> float:
        """Return the part of S^2 that is the same everywhere: 1/2 sigma^4 tr Lam^2 + s^2.

        Parameters
        ----------
        sigma
            Perturbation scale, weight units.

        Returns
        -------
        float
            reward^2.
        """
        return 0.5 * sigma**4 * self.square_trace + self.reward_std**2

    def member_std(self, sigma: float) -> float:
        """Return S at the start: S^2 = sigma^2 ||g||^2 + 1/2 sigma^4 tr Lam^2 + s^2.

        Parameters
        ----------
        sigma
            Perturbation scale, weight units.

        Returns
        -------
        float
            Reward units.
        """
        return math.sqrt((sigma * self.gradient_norm) ** 2 + self.constant_variance(sigma))

    def signal(self, sigma: float) -> Signal:
        """Return the linear signal at the start; its reliability counts the quadratic part as noise.

        Parameters
        ----------
        sigma
            Perturbation scale, weight units.

        Returns
        -------
        Signal
            Empty where all members have the same reward.
        """
        member_std = self.member_std(sigma)
        if member_std == 0:
            return Signal()
        reliability = (sigma * self.gradient_norm / member_std) ** 2
        return Signal(
            reliability=min(reliability, 1.0),
            gradient_norm=self.gradient_norm,
            member_std=member_std,
            even_share=0.5 * sigma**4 * self.square_trace / member_std**2,
        )
