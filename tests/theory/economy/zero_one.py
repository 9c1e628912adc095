"""0/1 rewards of members on prompts that differ: the oracle of this folder, which uses nothing of the package.

Member i answers prompt b with probability logistic(mu_b + s_b x_i - u (q_i + 1)): x_i is the linear part of its noise,
and q_i, a standardised chi-square of 30 degrees of freedom, the even part. A mirrored member has -x_i and the same q_i.
"""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Prompts:
    """Laws of the prompts: mean and spread of mu, mean and spread of s, and u; signed: s is normal around 0."""

    mean: float = 0.0
    spread: float = 1.5
    slope: float = 0.0
    slope_spread: float = 0.0
    even: float = 0.0
    signed: bool = False

    def drawn(self, rng, prompts):
        mu = self.mean + self.spread * rng.standard_normal(prompts)
        if self.signed:
            return mu, self.slope * rng.standard_normal(prompts)
        slope = self.slope * np.exp(self.slope_spread * rng.standard_normal(prompts) - self.slope_spread**2 / 2)
        return mu, slope

    def success(self, x, q, mu, slope):
        return 1 / (1 + np.exp(-(mu + slope * x - self.even * (q + 1))))

    def rewards(self, rng, members, prompts, *, mirrored):
        """Rewards (members, prompts), pairs interleaved, and the centre's (prompts,)."""
        mu, slope = self.drawn(rng, prompts)
        pairs = members // 2 if mirrored else members
        x, q = rng.standard_normal(pairs), (rng.chisquare(30, pairs) - 30) / math.sqrt(60)
        if mirrored:
            x, q = np.stack([x, -x], axis=1).ravel(), np.repeat(q, 2)
        found = rng.random((members, prompts)) < self.success(x[:, None], q[:, None], mu, slope)
        centre = rng.random(prompts) < self.success(0.0, -1.0, mu, slope)
        return found.astype(float), centre.astype(float)

    def truth(self, rng, members=20_000, prompts=2_000):
        """v, its odd and even parts, w and the gap, over fresh members and prompts."""
        mu, slope = self.drawn(rng, prompts)
        plus, minus, other = np.empty(members), np.empty(members), 0.0
        for block in np.array_split(np.arange(members), max(members // 1000, 1)):
            x, q = rng.standard_normal((block.size, 1)), (rng.chisquare(30, (block.size, 1)) - 30) / math.sqrt(60)
            here, there = self.success(x, q, mu, slope), self.success(-x, q, mu, slope)
            plus[block], minus[block] = here.mean(axis=1), there.mean(axis=1)
            own = here - here.mean(axis=0) - here.mean(axis=1, keepdims=True) + here.mean()
            other += float((here * (1 - here) + own**2).sum()) / (members * prompts)
        odd, even = float((((plus - minus) / 2) ** 2).mean()), float(((plus + minus) / 2).var())
        gap = float(self.success(0.0, -1.0, mu, slope).mean() - plus.mean())
        return {"v": odd + even, "odd": odd, "even": even, "w": other, "gap": gap}


CASES = {
    "linear": Prompts(slope=0.4),
    "prompts of unequal slope": Prompts(mean=-0.5, spread=2.0, slope=0.4, slope_spread=1.0),
    "more even than odd": Prompts(slope=0.15, slope_spread=0.5, even=0.4),
    "weak": Prompts(mean=-1.0, slope=0.05, slope_spread=0.5, even=0.05),
    "rare success": Prompts(mean=-4.0, slope=0.4, slope_spread=0.5, even=0.1),
    "few prompts learn": Prompts(mean=-1.0, spread=2.0, slope=0.4, slope_spread=1.5),
    "nothing": Prompts(),
    "prompts that pull apart": Prompts(slope=2.0, signed=True),
    "only even": Prompts(even=0.4),
}
