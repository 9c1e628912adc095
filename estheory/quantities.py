"""The vocabulary of the package: quantities, predictions, measurements and verdicts.

Theory makes predictions, simulation and measurement make measurements, :mod:`estheory.validation` joins them into
verdicts. Adding a quantity is adding one line to :class:`Quantity`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Protocol

from estheory.laws import Law
from estheory.shown import Shown, Tabled

Label = Literal["exact", "large-N", "mean-field", "small-step"]
"""How far a result holds: ``exact`` for every N, d and T under its assumptions; ``large-N`` up to O(1/N);
``mean-field`` as the number of curved directions grows; ``small-step`` to second order in the displacement."""

Topic = Literal["on-task", "off-task", "geometry"]


class Quantity(StrEnum):
    """One measurable scalar: its name, unit, topic and definition.

    Attributes
    ----------
    unit
        ``weight``, ``reward``, ``reward^2``, ``nat``, ``nat/token`` or ``1``.
    topic
        ``geometry``, ``on-task`` or ``off-task``.
    definition
        One phrase.

    Examples
    --------
    >>> str(Quantity.KL_DRIFT), Quantity.KL_DRIFT.unit, Quantity.KL_DRIFT.definition
    ('kl_drift', 'nat/token', 'KL(base || tuned) per token')
    """

    unit: str
    topic: Topic
    definition: str

    def __new__(cls, name: str, unit: str, topic: Topic, definition: str) -> Quantity:
        """Build a member that equals its name and carries unit, topic and definition."""
        member = str.__new__(cls, name)
        member._value_ = name
        member.unit, member.topic, member.definition = unit, topic, definition
        return member

    @classmethod
    def named(cls, name: str) -> Quantity:
        """Return the quantity of a name.

        Parameters
        ----------
        name
            As in tables and JSON.

        Returns
        -------
        Quantity
            Equal to its name.

        Raises
        ------
        KeyError
            If there is none.
        """
        return {str(member): member for member in cls}[name]

    DISPLACEMENT_NORM = "displacement_norm", "weight", "geometry", "||theta_T - theta_0||"
    STEP_NORM = "step_norm", "weight", "geometry", "||theta_1 - theta_0||, one step"
    MEMBER_PERTURBATION_NORM = "member_perturbation_norm", "weight", "geometry", "sigma ||eps|| of one member"
    COORDINATE_STD = "coordinate_std", "weight", "geometry", "standard deviation of one flat coordinate at T"
    EFFECTIVE_DIMENSION_RATIO = (
        "effective_dimension_ratio",
        "1",
        "geometry",
        "||Delta||^2 over its expected value: N ||Delta||^2 / (alpha^2 T n) for the plain walk of n entries",
    )
    CHECKPOINT_COSINE = "checkpoint_cosine", "1", "geometry", "cosine of the displacements at two steps of one run"
    INDEPENDENT_COSINE = "independent_cosine", "1", "geometry", "cosine of the displacements of two independent runs"
    DISPLACEMENT_COSINE = "displacement_cosine", "1", "geometry", "cosine of two measured displacements"
    GRPO_DISPLACEMENT_NORM = (
        "grpo_displacement_norm",
        "weight",
        "geometry",
        "||theta_T - theta_0|| of a GRPO (AdamW) run",
    )
    NORM_RATIO = "norm_ratio", "1", "geometry", "displacement norm of ES over that of GRPO"
    MATCHING_POPULATION = (
        "matching_population",
        "1",
        "geometry",
        "population at which the ES walk is as short as GRPO's",
    )
    ES_GRPO_COSINE_BOUND = (
        "es_grpo_cosine_bound",
        "1",
        "geometry",
        "bound on |cos(Delta_ES, Delta_GRPO)| by ES's signal",
    )
    ES_GRPO_COSINE = "es_grpo_cosine", "1", "geometry", "cosine of the displacements of an ES and a GRPO run"
    DISPLACEMENT_EXPONENT = (
        "displacement_exponent",
        "1",
        "geometry",
        "slope of log ||Delta_T||^2 in log T over the checkpoints of one run: 1 for a walk, 2 for straight motion",
    )
    UNCHANGED_FRACTION = "unchanged_fraction", "1", "geometry", "share of the weights that are stored unchanged"
    DISPLACEMENT_KURTOSIS = (
        "displacement_kurtosis",
        "1",
        "geometry",
        "n sum(Delta_i^4) / (sum(Delta_i^2))^2: 3 for a Gaussian displacement",
    )
    LARGEST_CHANGE = "largest_change", "weight", "geometry", "largest |Delta_i|"
    STORAGE_CHANGE = (
        "storage_change",
        "weight",
        "geometry",
        "norm of what rounding the base to the checkpoint's dtype moves; no part of the displacement",
    )
    PRECISION_GAIN = "precision_gain", "1", "geometry", "factor of rounding on the variance of the walk"
    PRECISION_SIGNAL = "precision_signal", "1", "geometry", "share of the intended update that rounding keeps"
    GRADIENT_COSINE = "gradient_cosine", "1", "on-task", "cosine of the displacement with the gradient of the reward"
    PROGRESS_PER_STEP = "progress_per_step", "weight", "on-task", "expected displacement along the gradient, one step"
    REWARD_GAIN_PER_STEP = "reward_gain_per_step", "reward", "on-task", "expected change of the reward in one step"
    TIE_PROBABILITY = "tie_probability", "1", "on-task", "chance that all rewards of a step are equal: no motion"
    COHERENT_DISPLACEMENT_BOUND = (
        "coherent_displacement_bound",
        "weight",
        "on-task",
        "largest expected displacement along any one direction chosen beforehand or by the reward",
    )
    COHERENT_DISPLACEMENT = (
        "coherent_displacement",
        "weight",
        "on-task",
        "length of what the updates of a run moved along their gradients",
    )
    SIGNAL_SHARE_BOUND = "signal_share_bound", "1", "on-task", "largest share of ||Delta||^2 that can be signal"
    CRITICAL_POPULATION = (
        "critical_population",
        "1",
        "on-task",
        "population at which the best gain per step is half its limit",
    )
    OPTIMAL_ALPHA = "optimal_alpha", "weight", "on-task", "step size of the largest expected gain"
    REWARD = "reward", "reward", "on-task", "reward at T relative to the optimum, R - R*"
    REWARD_PEAK_STEP = "reward_peak_step", "1", "on-task", "step at which the mean reward peaks"
    REWARD_CHANGE = "reward_change", "reward", "on-task", "change of the expected reward since the start"
    REWARD_PEAK_STEP_LOWER_BOUND = (
        "reward_peak_step_lower_bound",
        "1",
        "on-task",
        "step before which the mean reward does not peak",
    )
    RELIABILITY = (
        "reliability",
        "1",
        "on-task",
        "rho^2: share of the variance of a member's reward that is linear in its noise, and so odd",
    )
    MEMBER_REWARD_STD = "member_reward_std", "reward", "on-task", "S, the standard deviation of a member's reward"
    REWARD_RELIABILITY = (
        "reward_reliability",
        "1",
        "on-task",
        "v/S^2: share of the variance of a member's reward that fresh prompts would see too, odd and even",
    )
    ODD_VARIANCE = "odd_variance", "reward^2", "on-task", "variance of members' effects that change sign with the noise"
    EVEN_VARIANCE = "even_variance", "reward^2", "on-task", "variance of members' effects that mirrored members share"
    SMOOTHING_GAP = "smoothing_gap", "reward", "on-task", "R(theta) - mean reward of its members"
    DIFFUSION_COST_PER_STEP = (
        "diffusion_cost_per_step",
        "reward",
        "on-task",
        "reward that the random part of one step costs",
    )
    NET_GAIN_PER_STEP = "net_gain_per_step", "reward", "on-task", "expected gain of one step less its diffusion cost"
    BEST_NET_GAIN = "best_net_gain", "reward", "on-task", "net gain of one step at the best step size"
    CENTRE_REWARD = "centre_reward", "reward", "on-task", "reward of the unperturbed model"
    MEAN_MEMBER_REWARD = "mean_member_reward", "reward", "on-task", "mean reward of a step's members"
    STATIONARY_REWARD_GAP = "stationary_reward_gap", "reward", "on-task", "R* - E R in the stationary state"
    INTERPOLATION_GAIN = "interpolation_gain", "reward", "on-task", "largest rise over the chord between ES and GRPO"
    DIRECTION_GAIN = "direction_gain", "reward", "on-task", "change of the reward at a distance along one direction"
    LOG_PROBABILITY = "log_probability", "nat", "on-task", "mean log-probability of a task's reference answers"
    KL_DRIFT = "kl_drift", "nat/token", "off-task", "KL(base || tuned) per token"
    OFF_TASK_REWARD_CHANGE = "off_task_reward_change", "reward", "off-task", "change of another task's reward"
    ACCURACY = "accuracy", "1", "on-task", "accuracy on a task"
    ACCURACY_CHANGE = "accuracy_change", "1", "on-task", "accuracy after minus accuracy before"


@dataclass(frozen=True, kw_only=True)
class Prediction(Tabled):
    """What theory says of one quantity.

    Attributes
    ----------
    quantity
        What is predicted.
    law
        Its probability law, in the quantity's unit.
    label
        How far the result holds.
    source
        Paper and equation, or the page of the derivation.
    assumptions
        What must hold, one phrase each.
    step
        The training step it is for; None where steps have no part in it.
    systematic
        Declared relative half-width of everything that is not seed-to-seed spread (an unknown dtype path, an
        O(1/N) remainder). Kept apart from the law.
    where
        What it is about when that is not the whole model: ``"100|400"`` for a pair of steps.
    """

    quantity: Quantity
    law: Law
    label: Label
    source: str
    assumptions: tuple[str, ...] = ()
    step: int | None = None
    systematic: float = 0.0
    where: str = ""


@dataclass(frozen=True, kw_only=True)
class Measurement(Tabled):
    """One measured value with its standard error and where it was measured.

    Attributes
    ----------
    quantity
        What was measured.
    value, stderr
        The value and its standard error, in the quantity's unit.
    step
        The training step; None when unknown.
    where
        ``total:<checkpoint>``, ``tensor:<checkpoint>:<name>``, ``<a>|<b>`` for a pair, or a table's place.
    source
        The run, file or publication.
    """

    quantity: Quantity
    value: float
    stderr: float = 0.0
    step: int | None = None
    where: str = ""
    source: str = ""


VerdictKind = Literal["consistent", "refuted", "underpowered"]


@dataclass(frozen=True, kw_only=True)
class Verdict(Shown):
    """A prediction joined with a measurement.

    Attributes
    ----------
    prediction, measurement
        The pair that was joined.
    pvalue
        Two-sided p-value of the measurement under the prediction, systematic band granted, before correction.
    power
        Chance that a 5 % error of the predicted mean would have been refuted.
    kind
        ``consistent``; ``refuted`` (rejected at the family-wise level); or ``underpowered`` (not rejected, and power
        is under 95 %: the measurement could not have refuted it).
    noticeable_error
        Smallest error of the predicted mean that would have been refuted with a chance of 95 %, in the quantity's
        unit; NaN where it was not worked out.
    """

    prediction: Prediction
    measurement: Measurement
    pvalue: float
    power: float
    kind: VerdictKind
    noticeable_error: float = float("nan")

    @property
    def ratio(self) -> float:
        """Measured value over predicted mean; NaN when the predicted mean is zero."""
        mean = self.prediction.law.mean
        return self.measurement.value / mean if mean else float("nan")

    @property
    def near_zero(self) -> bool:
        """Whether the predicted mean is within two standard deviations of 0, so that the ratio says nothing."""
        mean, spread = abs(self.prediction.law.mean), self.prediction.law.std
        return mean == 0 or mean < 2 * math.hypot(spread, self.measurement.stderr)


class NotJudged(Protocol):
    """A measured figure that the theory does not predict, and why not."""

    @property
    def quantity(self) -> str:
        """What the figure is of."""

    @property
    def step(self) -> int | None:
        """The step; None where none is known."""

    @property
    def where(self) -> str:
        """Where the figure stands."""

    @property
    def value(self) -> float:
        """The figure."""

    @property
    def reason(self) -> str:
        """Why nothing predicts it."""
