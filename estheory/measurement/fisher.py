"""What a Fisher probe found: tr F, tr F^2 and the KL of a random walk. Imports no torch.

For eps ~ N(0, I) and a small scale sigma_p, KL(p_theta || p_{theta + sigma_p eps}) = 1/2 sigma_p^2 eps' F eps. Each
random eps therefore gives one sample eps' F eps: the mean of the samples is tr F and their variance 2 tr F^2.

At a scale that is not small the samples are not quadratic forms any more, but 1/2 sigma_p^2 times their mean still is
the expected KL of an isotropic walk of that length, by definition. A probe at sigma_p = sqrt(v), the standard
deviation of one coordinate at the end of a run, predicts the run's KL without the quadratic law.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from estheory.errors import ConfigError
from estheory.theory.probe.prediction_law import largest_spread


@dataclass(frozen=True, kw_only=True)
class FisherProbe:
    """tr F and tr F^2 of the next-token distributions on fixed prompts, from random perturbations.

    Standard errors are over the random directions, for these prompts; other prompts have another F.

    Attributes
    ----------
    sigma
        Scale of the perturbations, sigma_p (weight).
    samples
        2 KL / sigma_p^2 of each direction (nat / token / weight^2).
    seed
        Seed of the directions.
    dim
        Number of perturbed parameters.
    tokens
        Number of tokens KL was averaged over.
    seconds
        Wall time.
    """

    sigma: float
    samples: tuple[float, ...]
    seed: int
    dim: int
    tokens: int
    seconds: float

    @property
    def trace(self) -> float:
        """The trace, tr F: the mean sample, unbiased up to the law's own O(sigma_p^2)."""
        return float(np.mean(self.samples))

    @property
    def trace_stderr(self) -> float:
        """Standard error of tr F; too small where few samples of this right-skewed law happen to be low."""
        return float(np.std(self.samples, ddof=1) / math.sqrt(len(self.samples)))

    @property
    def square_trace(self) -> float:
        """The trace of the square, tr F^2: half the samples' variance over K - 1, unbiased."""
        return float(np.var(self.samples, ddof=1) / 2)

    @property
    def square_trace_stderr(self) -> float:
        """Standard error of tr F^2.

        Var(s^2) = s^4 (2/(K-1) + excess/K) with the excess kurtosis of a sum of equal weighted chi-squares
        that has this mean and variance, 12 tr F^2/(tr F)^2. An uneven spectrum has a larger one.
        """
        count = len(self.samples)
        excess = 12 * self.square_trace / self.trace**2
        return self.square_trace * math.sqrt(2 / (count - 1) + excess / count)

    @property
    def mean_kl(self) -> float:
        """Expected KL of an isotropic displacement of this very scale, 1/2 sigma_p^2 times the trace (nat/token)."""
        return self.sigma**2 / 2 * self.trace

    @property
    def mean_kl_stderr(self) -> float:
        """Standard error of `mean_kl`; the spread of one walk is at most `mean_kl` times `relative_std`."""
        return self.sigma**2 / 2 * self.trace_stderr

    @property
    def relative_std(self) -> float:
        """Relative spread of the KL of a walk over seeds that these directions do not exclude: an upper 95 % limit.

        It holds whatever the spectrum: few samples need not show a direction that carries much of the trace. The
        estimate itself is ``estimated_relative_std``.
        """
        return float(np.std(self.samples, ddof=1)) / self.trace * largest_spread(len(self.samples))

    @property
    def estimated_relative_std(self) -> float:
        """Estimate of sqrt(2 tr F^2)/tr F, the relative spread over seeds of the KL of a walk.

        The sample standard deviation is low on average; it is divided by its mean for normal samples,
        c4(K) = sqrt(2/(K-1)) Gamma(K/2)/Gamma((K-1)/2). The ratio's own O(1/K) bias stays.
        """
        count = len(self.samples)
        low = math.sqrt(2 / (count - 1)) * math.exp(math.lgamma(count / 2) - math.lgamma((count - 1) / 2))
        return float(np.std(self.samples, ddof=1)) / (low * self.trace)


def probe_ratio(small: FisherProbe, large: FisherProbe) -> tuple[float, float]:
    """Return the ratio of the traces at two scales, large over small: 1 where the quadratic law holds.

    Result: the ratio and its standard error: that of the paired differences, far below that of either trace.

    Examples
    --------
    >>> shared = {"seed": 0, "dim": 100, "tokens": 50, "seconds": 0.0}
    >>> small = FisherProbe(sigma=0.01, samples=(4.0, 5.0, 6.0), **shared)
    >>> large = FisherProbe(sigma=0.1, samples=(4.4, 5.5, 6.6), **shared)
    >>> round(probe_ratio(small, large)[0], 6)
    1.1
    """
    if (small.seed, small.dim, len(small.samples)) != (large.seed, large.dim, len(large.samples)):
        raise ConfigError("the two probes used different directions", "make both with one call of fisher_probes")
    ratio = large.trace / small.trace
    residuals = np.array(large.samples) - ratio * np.array(small.samples)
    return ratio, float(np.std(residuals, ddof=1) / math.sqrt(len(residuals)) / small.trace)
