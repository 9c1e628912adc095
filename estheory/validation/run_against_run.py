"""What two runs from one base have in common: predicted from what each of them told, joined with their checkpoints."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from estheory.citations import ours
from estheory.laws import ChiLaw, Law, NormalLaw
from estheory.measurement.displacement import measure_displacements
from estheory.models.builtin import model_folder
from estheory.quantities import Label, Prediction, Quantity
from estheory.runs.view import OwnRun, known
from estheory.theory.adamw import grpo_mean_square
from estheory.theory.economy.steered_run import FLAT, LEDGER, START
from estheory.validation.coherent_pairs import steered
from estheory.validation.gradient_path_pairs import PROBED, gradient_path, probed_norm, run_rates
from estheory.validation.judge import Pair, paired
from estheory.validation.recorded_walk import RecordedWalk

SOURCE = ours("economy")
UNRELATED = "no common signal"
COMMON = "common signal"


@dataclass(frozen=True, kw_only=True)
class Along:
    """How far a run's displacement points along the gradient at the start of its task, and how long it is.

    Attributes
    ----------
    cosine, stderr
        With that gradient, and its error.
    norm, norm_stderr
        Predicted, weight units.
    norm_systematic
        What is not known of the norm beside that, relative.
    bound
        Whether the cosine lies anywhere between 0 and twice of it.
    assumptions
        What it rests on.
    """

    cosine: float
    stderr: float
    norm: float
    norm_stderr: float
    bound: bool
    assumptions: tuple[str, ...]
    norm_systematic: float = 0.0


def along(run: OwnRun) -> Along | None:
    """Return what a run told of its displacement; None where its rows, or probes before it, do not tell."""
    last = len(run.steps)
    if run.method == "es":
        found = steered(run)
        if found is None or found.norm(last) == 0.0:
            return None
        cosine = found.cosine(last)
        error = found.square(last).stderr / (2 * found.norm(last))
        return Along(
            cosine=cosine.value, stderr=cosine.stderr, norm=found.norm(last), norm_stderr=error,
            bound=found.part.bound is not None, assumptions=(FLAT, LEDGER, START),
        )  # fmt: skip
    path = gradient_path(run)
    if path is None or not path.along.any():
        return None
    norm, error, systematic = probed_norm(run, path, last)
    cosine_value = path.gradient_cosine(run_rates(run), last)
    return Along(
        cosine=cosine_value, stderr=abs(cosine_value) * error / norm, norm=norm, norm_stderr=error, bound=False,
        norm_systematic=systematic, assumptions=(PROBED,),
    )  # fmt: skip


def between_runs(runs: Sequence[OwnRun]) -> Iterator[Pair]:
    """Yield, for every two finished runs of one model, the cosine of their ends and the ratio of their norms.

    `runs`: of this package; those without a checkpoint of their last step, of other parameters, of other than Gaussian
    noise, and those that never moved, are passed over.
    Yields: of ``independent_cosine`` or ``es_grpo_cosine``: without a common signal, but for ES and GRPO that learn the
    same task, and where both runs learn the same task with it; ``es_grpo_cosine_bound`` where only one of them tells
    it. Of ``norm_ratio`` of ES over GRPO: by their walks, and with what gradients have in common.
    """
    for one, other in combinations([run for run in runs if len(run.steps) in run.checkpoints], 2):
        same = ("model", "trainable")
        if any(getattr(one.config, name) != getattr(other.config, name) for name in same) or one.dim != other.dim:
            continue
        if one.config.dtype != "float32" or other.config.dtype != "float32" or "lora" in one.config.trainable:
            continue
        if any(
            run.method == "es" and (run.es.noise != "gaussian" or not known(run.steps[-1].norm, "norm"))
            for run in (one, other)
        ):
            continue  # laws of independent coordinates, and of runs that moved
        yield from _cosines(one, other)
        if {one.method, other.method} == {"es", "grpo"}:
            es, grpo = (one, other) if one.method == "es" else (other, one)
            yield from _ratios(es, grpo)


def _cosines(one: OwnRun, other: OwnRun) -> Iterator[Pair]:
    mixed = one.method != other.method
    quantity = Quantity.ES_GRPO_COSINE if mixed else Quantity.INDEPENDENT_COSINE
    if one.method == other.method == "es" and one.config.seed == other.config.seed:
        return  # they draw the same noise
    files = {"one": one.checkpoints[len(one.steps)], "other": other.checkpoints[len(other.steps)]}
    value = float(measure_displacements(model_folder(one.config.model), files).cosines[0, 1])
    where, noise = f"{one.path.name}|{other.path.name}", 1 / math.sqrt(one.dim)

    def pair(law: Law, label: Label, kind: str, systematic: float, *assumptions: str) -> Pair:
        prediction = Prediction(
            quantity=quantity, law=law, label=label, source=SOURCE, assumptions=assumptions, systematic=systematic
        )
        return paired(prediction, value, where=f"{where}, {kind}", source=where)

    alike = one.config.task == other.config.task
    permuted = any(run.method == "es" and run.es.permute_rewards for run in (one, other))
    if "es" in (one.method, other.method) and not (mixed and alike and not permuted):
        yield pair(NormalLaw(0.0, noise), "large-N", UNRELATED, 0.0, "independent noise, nothing learned in common")
    if not alike:
        return
    first, second = along(one), along(other)
    known_one = first if second is None else second
    if mixed and known_one is not None and (first is None or second is None):
        most = abs(known_one.cosine) * (2 if known_one.bound else 1)
        error = math.hypot(known_one.stderr * (2 if known_one.bound else 1), noise)
        prediction = Prediction(
            quantity=Quantity.ES_GRPO_COSINE_BOUND,
            law=NormalLaw(most, error),
            label="mean-field",
            source=SOURCE,
            assumptions=(*known_one.assumptions, "the other run moves along that gradient at most"),
        )
        yield paired(prediction, value, where=f"{where}, {COMMON}", source=where)
    if first is None or second is None:
        return
    mean = first.cosine * second.cosine
    error = math.hypot(first.stderr * second.cosine, second.stderr * first.cosine)
    yield pair(
        NormalLaw(mean, math.hypot(error, noise)),
        "mean-field",
        COMMON,
        1.0 if first.bound or second.bound else 0.0,
        *dict.fromkeys((*first.assumptions, *second.assumptions)),
        "what they share lies along the gradient at the start",
    )


def _ratios(es: OwnRun, grpo: OwnRun) -> Iterator[Pair]:
    last, where = len(es.steps), f"{es.path.name}|{grpo.path.name}"
    if len(grpo.steps) != grpo.config.steps:
        return
    value = known(es.steps[-1].norm, "norm") / known(grpo.steps[-1].norm, "norm")
    config = grpo.grpo
    walk = math.sqrt(RecordedWalk.of(es).variance(last))
    noise = math.sqrt(grpo_mean_square(grpo.dim, config.lr, config.steps, config.schedule))

    def pair(law: Law, kind: str, systematic: float, *assumptions: str) -> Pair:
        prediction = Prediction(
            quantity=Quantity.NORM_RATIO,
            law=law,
            label="mean-field",
            source=SOURCE,
            assumptions=assumptions,
            systematic=systematic,
            step=last,
        )
        return paired(prediction, value, where=f"{where}, {kind}", source=where)

    if walk == 0.0:
        return
    yield pair(ChiLaw(walk / noise, es.dim), UNRELATED, 0.0, "two walks: no signal in either")
    first, second = along(es), along(grpo)
    if first is None or second is None:
        return
    ratio = first.norm / second.norm
    spread = ratio * math.hypot(first.norm_stderr / first.norm, second.norm_stderr / second.norm)
    scatter = ratio / math.sqrt(2 * es.dim)
    yield pair(
        NormalLaw(ratio, math.hypot(spread, scatter)),
        COMMON,
        first.norm_systematic + second.norm_systematic,
        *dict.fromkeys((*first.assumptions, *second.assumptions)),
    )
