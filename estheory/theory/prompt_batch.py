"""0/1 rewards of a batch of prompts: what real runs have, and what it changes in a forecast (docs/concepts/signal.md).

The forms are exact for the reward model of :func:`estheory.theory.reward_model.bernoulli_rewards`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from estheory.errors import ConfigError
from estheory.landscape import Signal
from estheory.rules import require_count
from estheory.theory.reward_model import RewardModel, bernoulli_rewards

MAX_PROMPTS = 2000
_MOST_SIGNAL = 1e3
"""sigma ||g|| beyond which every member's success is cut off at 0 or 1."""


@dataclass(frozen=True, kw_only=True)
class PromptBatch:
    """A member's reward is the share of B prompts it answers right; the base model answers each with probability p.

    Attributes
    ----------
    success
        p, in (0, 1).
    prompts
        B.

    Raises
    ------
    ConfigError
        If p leaves (0, 1), or B is no count or above ``MAX_PROMPTS``.

    Examples
    --------
    >>> PromptBatch(success=0.1, prompts=9).reward_std
    0.1
    """

    success: float
    prompts: int

    def __post_init__(self) -> None:
        """Check both."""
        if not 0 < self.success < 1:
            raise ConfigError(
                f"success must lie between 0 and 1, got {self.success}",
                "it is the base model's accuracy on the prompts",
            )
        require_count("prompts", self.prompts, 1)
        if self.prompts > MAX_PROMPTS:
            raise ConfigError(
                f"{self.prompts} prompts are more than {MAX_PROMPTS}",
                f"such rewards are Gaussian: give --reward-std {self.reward_std:.3g} instead",
            )

    @property
    def reward_std(self) -> float:
        """The reward noise s = sqrt(p (1-p) / B), reward units."""
        return math.sqrt(self.success * (1 - self.success) / self.prompts)

    def model(self, signal_std: float) -> RewardModel:
        """Return the joint law of a member's reward and its coordinate along the gradient.

        Parameters
        ----------
        signal_std
            sigma ||g||, reward units.

        Returns
        -------
        RewardModel
            Of B prompts of equal success.
        """
        return bernoulli_rewards(self.success, prompts=self.prompts, signal_std=signal_std)

    def signal(self, *, sigma: float, reliability: float | None = None, gradient_norm: float | None = None) -> Signal:
        """Return the linear signal: S^2 = p (1-p) / B + (1 - 1/B) (sigma ||g||)^2 where nothing is cut off at 0 or 1.

        With ``reliability`` the gradient is the one whose rewards have it, cut off at 0 and 1 as they are.

        Parameters
        ----------
        sigma
            Perturbation scale, weight units.
        reliability
            rho^2, in [0, 1).
        gradient_norm
            ||g||, reward / weight, in place of ``reliability``.

        Returns
        -------
        Signal
            Without gradient where neither is given.

        Raises
        ------
        ConfigError
            For both, a reliability outside [0, 1), or one that no gradient gives such rewards.
        """
        if gradient_norm is not None and reliability is not None:
            raise ConfigError("success, prompts, gradient-norm and reliability are one too many", "leave one out")
        if reliability is not None:
            if not 0 <= reliability < 1:
                raise ConfigError(f"reliability must lie in [0, 1) here, got {reliability}", "0/1 rewards have noise")
            gradient_norm = self._signal_std(reliability) / sigma
        if not gradient_norm:
            return Signal(reliability=reliability, member_std=self.reward_std, sigma=sigma)
        model = self.model(sigma * gradient_norm)
        return Signal(reliability=model.correlation**2, gradient_norm=gradient_norm, member_std=model.std, sigma=sigma)

    def _signal_std(self, reliability: float) -> float:
        """Return sigma ||g|| of the smallest gradient that gives the rewards this reliability."""
        if reliability == 0:
            return 0.0

        def excess(spread: float) -> float:
            return self.model(spread).correlation ** 2 - reliability

        # without the cut at 0 and 1: where it starts to matter more signal is needed
        low = self.reward_std * math.sqrt(reliability / (1 - reliability * (1 - 1 / self.prompts)))
        high, best = low, excess(low)
        if abs(best) < 1e-9 * reliability:
            return low
        while best < 0:
            high *= 1.5
            found = excess(high)
            if found <= best or high > _MOST_SIGNAL:
                raise ConfigError(
                    f"0/1 rewards of {self.prompts} prompts at success {self.success:g} reach a reliability of "
                    f"{best + reliability:.3g} at most, not {reliability:g}",
                    "lower --reliability, give --gradient-norm, or leave --success and --prompts out",
                )
            best = found
        low = min(low, high / 1.5)
        for _ in range(60):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if excess(middle) < 0 else (low, middle)
            if high - low < 1e-12 * high:
                break
        return high
