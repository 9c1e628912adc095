"""How gradient methods estimate the gradient g.

- :class:`NoisyGradient`: g plus Gaussian noise, the setting of :mod:`estheory.theory.curved.comparison` (noise of
  covariance c Lam) and of :mod:`estheory.theory.adamw` (dense noise).
- :class:`GroupAdvantage`: what group-relative policy optimisation keeps when the language model is taken away.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from estheory._special import Array
from estheory.errors import ConfigError
from estheory.rules import require_count, require_positive


@dataclass(frozen=True, kw_only=True)
class NoisyGradient:
    """The exact gradient plus independent Gaussian noise.

    Attributes
    ----------
    aligned
        c >= 0, reward units: noise of covariance c Lam, as that of a likelihood near its optimum; none where flat.
    dense
        Standard deviation >= 0 of noise in every coordinate, flat ones too, reward / weight.
    """

    aligned: float = 0.0
    dense: float = 0.0

    def __post_init__(self) -> None:
        """Check both."""
        for name in ("aligned", "dense"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"{name} gradient noise must be a finite number >= 0, got {value}", "correct it")


@dataclass(frozen=True, kw_only=True)
class GroupAdvantage:
    """Group-relative policy gradient from sampled outcomes that succeed or fail.

    An outcome k of a prompt has a score vector psi_k = grad log pi ~ N(0, F), F = f I, and a latent quality

        q_k = R(theta) + g' F^-1 psi_k + s e_k,   e_k ~ N(0, 1),

    so that E[q psi] = g, as the policy-gradient theorem demands of any policy. It succeeds, r_k = 1, where q_k
    exceeds a fixed threshold. Within a group of K outcomes A_k = (r_k - mean r) / std r (0 where all agree), and the
    estimate is the mean of A_k psi_k over all outcomes of all groups.

    Of GRPO it keeps: sampled outcomes, binary rewards, the group baseline and its normalisation, groups that agree and
    teach nothing, score noise in directions that the reward does not see. It leaves out: tokens, clipping (each sample
    is used once, where the ratio is 1), a KL penalty, and that real scores span few directions.

    Attributes
    ----------
    groups, samples
        Prompts per step, and outcomes K >= 2 of each.
    score_std
        sqrt(f), 1/weight: a displacement delta along a coordinate changes an outcome's log-probability by about
        delta sqrt(f). Small: outcomes tell much of the gradient, sqrt(g' F^-1 g) against s.
    success
        Rate of success at the start, which sets the threshold.
    """

    groups: int = 16
    samples: int = 8
    score_std: float = 1.0
    success: float = 0.5

    def __post_init__(self) -> None:
        """Check all."""
        require_count("groups", self.groups, 1)
        require_count("samples", self.samples, 2)
        require_positive("score-std", self.score_std)
        if not 0 < self.success < 1:
            raise ConfigError(f"success must lie between 0 and 1, got {self.success}", "it is a rate at the start")


def advantages(rewards: Array) -> Array:
    """Return (r - mean) / std within each group.

    `rewards`: shape (..., K): the K samples of each prompt.
    Result: shape (..., K), std is that of the group (divide by K); 0 where all agree.
    """
    centred = rewards - rewards.mean(axis=-1, keepdims=True)
    spread = np.sqrt(np.mean(np.square(centred), axis=-1, keepdims=True))
    return np.asarray(np.divide(centred, spread, out=np.zeros_like(centred), where=spread > 1e-12))
