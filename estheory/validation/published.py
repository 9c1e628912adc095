"""What the theory says of published measurements of real GPU runs; nothing is fitted to them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

from estheory.landscape import Signal
from estheory.laws import ChiLaw
from estheory.quantities import Prediction, Quantity
from estheory.rules import ESConfig
from estheory.theory.adamw import Schedule
from estheory.theory.grpo import GRPOConfig
from estheory.theory.predictions import predict
from estheory.validation.judge import Evidence, Pair, paired
from estheory.validation.own_rounding import recorded_band
from estheory.validation.published_table import PublishedRow, read_published


@dataclass(frozen=True)
class Unpredicted:
    """A published figure that the theory cannot predict, and why.

    Attributes
    ----------
    row
        The figure.
    reason
        Why nothing predicts it.
    """

    row: PublishedRow
    reason: str

    @property
    def quantity(self) -> str:
        """What the figure is of."""
        return self.row.quantity

    @property
    def step(self) -> int | None:
        """The step; None where the source states none."""
        return self.row.steps

    @property
    def where(self) -> str:
        """Where the figure stands."""
        return self.row.place

    @property
    def value(self) -> float:
        """The figure."""
        return self.row.value


def predict_row(row: PublishedRow, rows: tuple[PublishedRow, ...]) -> Prediction | Unpredicted:
    """Return the prediction for one row from its own hyper-parameters, or why there is none.

    A row without a dimension takes that of the same model elsewhere in the table.

    Result: unpredicted where the row states too little, with what is missing.

    Examples
    --------
    >>> rows = read_published()
    >>> prediction = predict_row(rows[0], rows)
    >>> round(prediction.law.mean, 2), rows[0].value
    (86.85, 87.28)
    """
    dim = row.dim or next((r.dim for r in rows if r.model == row.model and r.dim), None)
    if dim is None:
        return Unpredicted(row, "the number of parameters is not stated")
    if row.quantity.startswith(Quantity.KL_DRIFT):
        return Unpredicted(row, "needs tr F, the Fisher trace of the model on that task")
    if row.population is None and row.sigma is None:
        return _gradient_row(row, dim)
    population = row.population or 1
    single = row.quantity == Quantity.MEMBER_PERTURBATION_NORM
    two_point = "two-point" in row.path
    if row.sigma is None and row.quantity != Quantity.GRADIENT_COSINE:
        return Unpredicted(row, "sigma is not stated")
    band = None
    walks = row.quantity in (Quantity.DISPLACEMENT_NORM, Quantity.STEP_NORM, Quantity.EFFECTIVE_DIMENSION_RATIO)
    config = ESConfig(
        dim=dim,
        sigma=row.sigma or 1.0,  # the cosine does not depend on it
        alpha=row.alpha,
        population=2 if single else population,  # a member's perturbation does not depend on it
        steps=row.steps or 1,
        shaping="two-point" if two_point else "zscore",
        dtype=row.dtype if walks else "float32",
        update_path="sequential" if "sequential" in row.path else "accumulated",
    )
    if config.dtype != "float32":
        found = recorded_band(config, "sequential" in row.path or "accumulate" in row.path)
        band = None if found is None else dict.fromkeys((1, config.steps), found)
    # one batch for both evaluations of a pair: no noise beside the signal of that batch's own gradient
    noiseless = Signal(reliability=1.0, gradient_norm=1.0, member_std=config.sigma)
    forecast = predict(config, reward=noiseless if "one batch" in row.path else None, band=band)
    for prediction in forecast.predictions:
        if prediction.quantity == row.quantity:
            return prediction
    return Unpredicted(row, "the hyper-parameters stated do not determine it")


def _gradient_row(row: PublishedRow, dim: int) -> Prediction | Unpredicted:
    if row.quantity != Quantity.DISPLACEMENT_NORM:
        return Unpredicted(row, "the theory of gradient methods covers the displacement norm")
    grpo = stated_grpo(row)
    if grpo is None:
        return Unpredicted(row, "learning rate, schedule or steps are not stated in the table")
    any_es = ESConfig(dim=dim, sigma=1.0, population=2)
    # no band: bfloat16 parameters without a master copy would leave a fifth of this walk or less, which is no margin
    return predict(any_es, grpo=grpo).get(Quantity.GRPO_DISPLACEMENT_NORM)


def stated_grpo(row: PublishedRow) -> GRPOConfig | None:
    """Return AdamW's hyper-parameters as a row states them ("AdamW lr 3e-6 linear decay").

    `row`: the figure; its path and its steps are read.
    Result: None unless learning rate, schedule and steps are all stated.
    """
    lr = re.search(r"\blr ([0-9.]+(?:e-?[0-9]+)?)", row.path)
    schedule = re.search(r"\b(constant|linear|cosine)\b", row.path)
    if lr is None or schedule is None or row.steps is None:
        return None
    kinds: dict[str, Schedule] = {"constant": "constant", "linear": "linear", "cosine": "cosine"}
    return GRPOConfig(lr=float(lr[1]), steps=row.steps, schedule=kinds[schedule[1]])


def published_pairs() -> Evidence:
    """Return every published figure that the theory predicts with its prediction, and the others with the reason.

    Where one model has an ES norm and a GRPO norm that are both predicted, the ratio of the first of each joins the
    pairs: the ratio that hyper-parameters alone set.

    Returns
    -------
    Evidence
        In the order of the table, ratios last.

    Examples
    --------
    >>> from collections import Counter
    >>> from estheory.validation.judge import judge, paired
    >>> evidence = published_pairs()
    >>> sorted(Counter(verdict.kind for verdict in judge(evidence.pairs)).items())
    [('consistent', 3), ('refuted', 2), ('underpowered', 7)]
    >>> evidence.unpredicted[0].reason
    'learning rate, schedule or steps are not stated in the table'
    """
    rows = read_published()
    pairs: list[Pair] = []
    unpredicted: list[Unpredicted] = []
    norms: dict[str, list[tuple[PublishedRow, Prediction]]] = {}
    for row in rows:
        result = predict_row(row, rows)
        if isinstance(result, Unpredicted):
            unpredicted.append(result)
            continue
        pairs.append((result, row.measurement(result.quantity)))
        if row.quantity == Quantity.DISPLACEMENT_NORM:
            norms.setdefault(row.model, []).append((row, result))
    for same_model in norms.values():
        by_method = {prediction.quantity: (row, prediction) for row, prediction in reversed(same_model)}
        if len(by_method) == 2:
            pairs.append(_ratio(by_method[Quantity.DISPLACEMENT_NORM], by_method[Quantity.GRPO_DISPLACEMENT_NORM]))
    return Evidence(pairs=pairs, unpredicted=unpredicted)


def _ratio(es: tuple[PublishedRow, Prediction], grpo: tuple[PublishedRow, Prediction]) -> Pair:
    """Return prediction and measurement of the norm ratio of two rows; systematic bands and errors add."""
    (es_row, es_prediction), (grpo_row, grpo_prediction) = es, grpo
    value = es_row.value / grpo_row.value
    error = math.hypot(es_row.stderr / es_row.value, grpo_row.stderr / grpo_row.value)
    norm = es_prediction.law
    assert isinstance(norm, ChiLaw)  # every displacement norm is
    prediction = Prediction(
        quantity=Quantity.NORM_RATIO,
        law=replace(norm, scale=norm.scale / grpo_prediction.law.mean),
        label=grpo_prediction.label,
        source=grpo_prediction.source,
        assumptions=(*es_prediction.assumptions, *grpo_prediction.assumptions),
        step=es_row.steps,
        systematic=es_prediction.systematic + grpo_prediction.systematic,
    )
    where = f"{es_row.place}, {es_row.steps} against {grpo_row.steps} steps"
    return paired(prediction, value, stderr=value * error, where=where, source=es_row.publication)
