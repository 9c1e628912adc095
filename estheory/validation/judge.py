"""From predictions and measurements to verdicts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from estheory._special import normal_cdf, normal_quantile
from estheory.laws import noisy_pvalue
from estheory.measurement.displacement import Displacements
from estheory.quantities import Measurement, NotJudged, Prediction, Verdict
from estheory.shown import Shown
from estheory.validation.claims import Claims, Finding

RELEVANT_ERROR = 0.05
"""The relative error of a predicted mean that a measurement must be able to refute."""
RELEVANT_COSINE = 0.05
"""That error for a cosine whose mean is next to nothing."""
RELEVANT_SCATTERS = 8.0
"""That error for other quantities whose mean is next to nothing, in standard deviations of the law."""
CENTRED = 0.01
"""A mean below this many of the law's standard deviations counts as 0."""
REQUIRED_POWER = 0.95
"""The power from which a verdict may be `consistent`."""

Pair = tuple[Prediction, Measurement]
"""A prediction and a measurement of the same quantity."""


def paired(
    prediction: Prediction, value: float, *, stderr: float = 0.0, where: str | None = None, source: str = ""
) -> Pair:
    """Return a prediction with a measurement of its quantity at its step.

    `value`, `stderr`: what was measured, in the unit of the quantity.
    `where`: the place of the measurement; that of the prediction if None.
    `source`: what was measured, for the reader of the verdicts.
    """
    place = prediction.where if where is None else where
    measurement = Measurement(
        quantity=prediction.quantity, value=value, stderr=stderr, step=prediction.step, where=place, source=source
    )
    return prediction, measurement


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What there is to judge, and what cannot be judged.

    Attributes
    ----------
    pairs
        Predictions with their measurements, for :func:`judge`.
    unpredicted
        Measured figures without a prediction, each with the reason.
    notes
        What was left out and why, one line each.
    claims
        What the run says of itself, for :func:`estheory.validation.explanations.explain`; None where nothing does.
    findings
        What is wrong whatever the verdicts say.
    measured
        The checkpoints that were compared, with what their files hold beside; None where a log or table speaks alone.
    """

    pairs: Sequence[Pair]
    unpredicted: Sequence[NotJudged] = ()
    notes: Sequence[str] = ()
    claims: Claims | None = None
    findings: Sequence[Finding] = ()
    measured: Displacements | None = None


def verdict_pvalue(prediction: Prediction, measurement: Measurement) -> float:
    """Return the two-sided p-value of the measurement, the declared systematic band granted in full.

    The p-value is the largest that any shift of the predicted mean within the band gives. A bound (a quantity whose
    name ends in ``_bound``) is refuted only from above, by the normal law of the errors of both; a lower bound
    (``_lower_bound``) only from below.

    `prediction`: with its law and its declared systematic band.
    `measurement`: of the same quantity, with its standard error.
    """
    mean, value = prediction.law.mean, measurement.value
    band = prediction.systematic * abs(mean)
    if prediction.quantity.endswith("_bound"):
        lower = prediction.quantity.endswith("_lower_bound")
        excess = (mean - value if lower else abs(value) - mean) - band
        error = math.hypot(measurement.stderr, prediction.law.std)
        if error == 0.0:
            return 1.0 if excess <= 0 else 0.0
        return min(1.0, 2 * normal_cdf(-excess / error))
    shifted = value - math.copysign(min(abs(value - mean), band), value - mean)
    return noisy_pvalue(prediction.law, shifted, measurement.stderr)


def refuting_power(prediction: Prediction, measurement: Measurement, level: float) -> float:
    """Return the chance that a 5 % error of the predicted mean would have been refuted at ``level``.

    Normal approximation to the spread of law and measurement together; the systematic band must be crossed first.
    A bound says something where one 5 % closer would have been refuted. Where the mean is below a hundredth of the
    law's spread, an error of 0.05 of a pure number (a cosine), or of eight of these spreads, replaces the 5 %.

    `level`: two-sided level of the one test, in (0, 1).
    Result: 0 to 1; where nothing scatters 1, or 0 if the band covers the error.
    """
    mean, law_std = prediction.law.mean, prediction.law.std
    if prediction.quantity.endswith("_bound"):
        return _bound_power(prediction, measurement, level)
    error = RELEVANT_ERROR * abs(mean)
    # a cosine of 0, a change without sign: 5 % of the mean is no error that matters
    if abs(mean) < CENTRED * law_std:
        error = RELEVANT_COSINE if prediction.quantity.unit == "1" else RELEVANT_SCATTERS * law_std
    elif mean == 0:
        # without scatter any other figure is refuted; else nothing says how large an error would matter
        return float(measurement.stderr == 0)
    margin = error - prediction.systematic * abs(mean)
    spread = math.hypot(law_std, measurement.stderr)
    if spread == 0.0:
        return 1.0 if margin > 0 else 0.0
    return normal_cdf(margin / spread - normal_quantile(1 - level / 2))


def _bound_power(prediction: Prediction, measurement: Measurement, level: float) -> float:
    """Return the chance that a bound 5 % closer would have been refuted: near 0 where the measurement is far inside."""
    sign = -1 if prediction.quantity.endswith("_lower_bound") else 1
    closer = (1 - sign * RELEVANT_ERROR) * prediction.law.mean + sign * prediction.systematic * abs(prediction.law.mean)
    value = measurement.value if sign < 0 else abs(measurement.value)
    beyond, error = sign * (value - closer), math.hypot(prediction.law.std, measurement.stderr)
    if error == 0.0:
        return 1.0 if beyond > 0 else 0.0
    return normal_cdf(beyond / error - normal_quantile(1 - level / 2))


def noticeable_error(prediction: Prediction, measurement: Measurement, level: float) -> float:
    """Return the smallest error of the predicted mean that would have been refuted with a chance of 95 %.

    For a bound it is the distance to the closest bound that would have been refuted so.

    `level`: two-sided level of the one test, in (0, 1).
    Result: in the unit of the quantity.
    """
    mean, value = prediction.law.mean, measurement.value
    spread = math.hypot(prediction.law.std, measurement.stderr)
    error = spread * (normal_quantile(1 - level / 2) + normal_quantile(REQUIRED_POWER))
    error += prediction.systematic * abs(mean)
    if prediction.quantity.endswith("_lower_bound"):
        return max(0.0, value - mean) + error
    if prediction.quantity.endswith("_bound"):
        return max(0.0, mean - abs(value)) + error
    return error


class Verdicts(tuple[Verdict, ...], Shown):
    """Verdicts that were judged together, in the order of their pairs.

    Attributes
    ----------
    level
        Their family-wise level.
    """

    level: float

    def __new__(cls, verdicts: Iterable[Verdict], level: float = 0.05) -> Verdicts:
        """Keep the level beside the verdicts."""
        made = super().__new__(cls, verdicts)
        made.level = level
        return made


def judge(pairs: Iterable[Pair], level: float = 0.05) -> Verdicts:
    """Judge pairs of prediction and measurement together.

    Parameters
    ----------
    pairs
        What is to be compared.
    level
        Family-wise level: the chance that any true prediction is refuted is at most this (Holm's correction).

    Returns
    -------
    Verdicts
        A tuple of `Verdict`, in the order of the pairs.

    Examples
    --------
    One published norm, against the law of its hyper-parameters without and with a band for bfloat16 rounding:

    >>> from estheory import ESConfig, Quantity, predict
    >>> run = ESConfig(dim=4_022_468_096, sigma=0.0015, alpha=0.00075, population=30, steps=100)
    >>> measured = Measurement(quantity=Quantity.DISPLACEMENT_NORM, value=87.28, stderr=0.003, step=100)
    >>> [verdict] = judge([(predict(run).get(Quantity.DISPLACEMENT_NORM), measured)])
    >>> verdict.kind, round(verdict.ratio, 3)
    ('refuted', 1.005)
    >>> in_bfloat16 = replace(run, dtype="bfloat16", update_path="sequential")
    >>> judge([(predict(in_bfloat16).get(Quantity.DISPLACEMENT_NORM), measured)])[0].kind
    'underpowered'
    """
    pairs = list(pairs)
    pvalues = [verdict_pvalue(p, m) for p, m in pairs]
    order = sorted(range(len(pairs)), key=pvalues.__getitem__)
    refuted: set[int] = set()
    for rank, index in enumerate(order):
        if pvalues[index] > level / (len(pairs) - rank):
            break
        refuted.add(index)
    verdicts = []
    for index, (prediction, measurement) in enumerate(pairs):
        power = refuting_power(prediction, measurement, level / len(pairs))
        able = power >= REQUIRED_POWER
        verdicts.append(
            Verdict(
                prediction=prediction,
                measurement=measurement,
                pvalue=pvalues[index],
                power=power,
                kind="refuted" if index in refuted else "consistent" if able else "underpowered",
                noticeable_error=noticeable_error(prediction, measurement, level / len(pairs)),
            )
        )
    return Verdicts(verdicts, level)


def without_band(verdicts: Sequence[Verdict], level: float = 0.05) -> Verdicts:
    """Judge the same pairs again with every systematic band set to 0."""
    return judge(((replace(v.prediction, systematic=0.0), v.measurement) for v in verdicts), level)


def exit_code(verdicts: Sequence[Verdict]) -> int:
    """Return the exit code of the command line.

    Result: 3 if any verdict is refuted, else 0 if one is consistent, else 4.
    """
    kinds = {v.kind for v in verdicts}
    return 3 if "refuted" in kinds else 0 if "consistent" in kinds else 4
