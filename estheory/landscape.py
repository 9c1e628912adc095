"""What is known of the reward around the model: its signal, and (later) its curvature."""

from __future__ import annotations

import math
from dataclasses import dataclass

from estheory.errors import ConfigError
from estheory.rules import require_positive


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
    """

    reliability: float | None = None
    gradient_norm: float | None = None
    member_std: float | None = None

    @property
    def correlation(self) -> float | None:
        """rho, the correlation of a member's reward with its linear signal."""
        return None if self.reliability is None else math.sqrt(self.reliability)


def linear_signal(
    *,
    sigma: float,
    reliability: float | None = None,
    gradient_norm: float | None = None,
    reward_std: float | None = None,
) -> Signal:
    """Resolve what the user knows of a linear reward into a :class:`Signal`.

    Parameters
    ----------
    sigma
        Perturbation scale, weight units.
    reliability
        rho^2 in [0, 1].
    gradient_norm
        ||g|| > 0, reward per weight.
    reward_std
        s >= 0, reward units: the standard deviation of a member's reward from everything but its perturbation.

    Returns
    -------
    Signal
        With all that any two of the three determine; exact under a linear reward, where S^2 = sigma^2 ||g||^2 + s^2.

    Raises
    ------
    ConfigError
        If a value is out of range, or all three are given and disagree by more than 1e-6 in rho^2.
    """
    require_positive("sigma", sigma)
    if reliability is not None and not 0 <= reliability <= 1:
        raise ConfigError(f"reliability must lie in [0, 1], got {reliability}", "it is rho^2, a share of variance")
    if gradient_norm is not None:
        require_positive("gradient-norm", gradient_norm)
    if reward_std is not None and not (math.isfinite(reward_std) and reward_std >= 0):
        raise ConfigError(f"reward-std must be a finite number >= 0, got {reward_std}", "it is s, in reward units")
    if gradient_norm is not None and reward_std is not None:
        member_std = math.hypot(sigma * gradient_norm, reward_std)
        implied = (sigma * gradient_norm / member_std) ** 2
        if reliability is not None and abs(reliability - implied) > 1e-6:
            raise ConfigError(
                f"reliability {reliability} contradicts gradient-norm and reward-std, which imply {implied:.6g}",
                "give two of the three",
            )
        return Signal(reliability=implied, gradient_norm=gradient_norm, member_std=member_std)
    if reliability is None:
        return Signal(gradient_norm=gradient_norm)
    if gradient_norm is not None and reliability > 0:
        member_std = sigma * gradient_norm / math.sqrt(reliability)
        return Signal(reliability=reliability, gradient_norm=gradient_norm, member_std=member_std)
    if gradient_norm is not None:
        raise ConfigError("reliability 0 contradicts a gradient-norm above 0", "give one of the two")
    if reward_std is not None and reliability < 1:
        member_std = reward_std / math.sqrt(1 - reliability)
        return Signal(
            reliability=reliability,
            gradient_norm=member_std * math.sqrt(reliability) / sigma if reliability else None,
            member_std=member_std,
        )
    return Signal(reliability=reliability)
