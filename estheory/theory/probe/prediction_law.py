"""What a further random direction will show, from a few that were measured: their own spread is an estimate, too."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from estheory._special import Array, chi_nodes, chi_square_tails_array, invert_increasing
from estheory.laws import Law


@dataclass(frozen=True)
class FewDirectionsLaw(Law):
    """The law of one more positive sample, given mean and relative standard deviation of ``count`` samples.

    In logarithms one more sample is about their mean as Student's t of count - 1 degrees of freedom, which holds for
    spectra of many directions and for few samples. What it leaves out is skewness: a few directions that carry most of
    the trace. The upper tail is therefore at least that of a single one, 1 + r (chi^2_1 - 1)/sqrt(2), its r scattering
    like the sample standard deviation of ``count`` normal samples.

    Attributes
    ----------
    value
        Mean of the samples, in the quantity's unit.
    relative_std
        Their relative standard deviation.
    count
        How many there are, at least 2.

    Raises
    ------
    ValueError
        If mean or spread are not positive and finite, or there are fewer than two.

    Notes
    -----
    Label: small-step. Source: ours: docs/concepts/drift.md.

    Examples
    --------
    >>> few, many = (FewDirectionsLaw(1.0, 0.1, count) for count in (4, 64))
    >>> [round(law.interval(0.95)[0], 2) for law in (few, many)]
    [0.7, 0.81]
    """

    value: float
    relative_std: float
    count: int

    def __post_init__(self) -> None:
        positive = all(math.isfinite(x) and x > 0 for x in (self.value, self.relative_std))
        if not positive or self.count < 2:
            raise ValueError(f"{self.count} samples of mean {self.value} and relative spread {self.relative_std}")

    @property
    def mean(self) -> float:
        """The mean of the samples."""
        return self.value

    @property
    def std(self) -> float:
        """The standard deviation of one more sample about the mean of the others."""
        return self.value * self.relative_std * math.sqrt(1 + 1 / self.count)

    def tails(self, x: float) -> tuple[float, float]:
        """Return upper limits of P(X <= x) and P(X > x): about the median they add up to more than 1."""
        from scipy.special import stdtr

        if x <= 0:
            return 0.0, 1.0
        freedom = self.count - 1
        spread = math.sqrt(math.log1p(self.relative_std**2))
        # the mean of the logarithms lies half a variance below the logarithm of the mean
        score = (math.log(x / self.value) + spread**2 / 2) / (spread * math.sqrt(1 + 1 / self.count))
        low, high = float(stdtr(freedom, score)), float(stdtr(freedom, -score))
        nodes, weights = chi_nodes(float(freedom))
        beyond = (x / self.value - 1) / (self.relative_std * math.sqrt(1 + 1 / self.count))
        single = chi_square_tails_array(np.maximum(1 + math.sqrt(2) * beyond * nodes / math.sqrt(freedom), 0.0), 1.0)
        return low, max(high, float(single[1] @ weights)) if beyond > 0 else high

    def quantile(self, p: float) -> float:
        """Return the quantile; above the median of the wider tail."""

        def inside(x: float) -> float:
            low, high = self.tails(x)
            return low if p < 0.5 else 1 - high

        return invert_increasing(inside, p, self.value, self.std)

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """Return ``n`` draws of the logarithmic law, shape (n,)."""
        spread = math.sqrt(math.log1p(self.relative_std**2))
        scores = rng.standard_t(self.count - 1, n) * spread * math.sqrt(1 + 1 / self.count)
        return np.asarray(self.value * np.exp(scores - spread**2 / 2))
