"""A forecast as a table, as sentences, and as JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, get_args

from estheory.quantities import Measurement, Prediction, Quantity, Topic
from estheory.reporting.text.tables import Sheet, Table, short
from estheory.theory.predictions import Forecast

_UNITS = {"weight": "w", "reward": "R", "1": ""}


def forecast_json(forecast: Forecast, config: dict[str, Any], level: float) -> dict[str, Any]:
    """Return one configuration's ``config``, ``predictions`` and ``warnings`` as contract.md's JSON keys."""
    return {
        "config": config,
        "predictions": [prediction_json(p, level) for p in forecast.predictions],
        "warnings": list(forecast.warnings),
    }


def prediction_json(prediction: Prediction, level: float) -> dict[str, Any]:
    """Return one prediction as a JSON object.

    `prediction`: its law gives mean, standard deviation and interval.
    Result: ``where`` only if there is one.
    """
    entry = {
        "quantity": str(prediction.quantity),
        "step": prediction.step,
        "unit": prediction.quantity.unit,
        "mean": prediction.law.mean,
        "std": prediction.law.std,
        "interval": list(prediction.law.interval(level)),
        "level": level,
        "systematic": prediction.systematic,
        "label": prediction.label,
        "source": prediction.source,
        "assumptions": list(prediction.assumptions),
    }
    return entry | ({"where": prediction.where} if prediction.where else {})


PAIRS = 45
"""Cosines of two steps that a table lists all: those of ten steps."""


def _listed(predictions: Sequence[Prediction]) -> list[Prediction]:
    """Return what a table lists: all, but of very many cosines of two steps those with the last step."""
    pairs = [p for p in predictions if p.quantity is Quantity.CHECKPOINT_COSINE]
    if len(pairs) <= PAIRS:
        return list(predictions)
    last = pairs[-1].where.rpartition("|")[2]
    left = {id(p) for p in pairs if p.where.rpartition("|")[2] != last}
    return [p for p in predictions if id(p) not in left]


def forecast_sheet(forecast: Forecast, level: float) -> Sheet:
    """Return the tables by topic and, under them, what they mean in plain words."""
    parts: list[Table | str] = []
    listed = _listed(forecast.predictions)
    for topic in get_args(Topic):
        if chosen := [p for p in listed if p.quantity.topic == topic]:
            parts.append(_table(chosen, level, topic))
    parts.append(sentence(forecast))
    if left := len(forecast.predictions) - len(listed):
        parts.append(f"{left:,} more cosines of two steps: --json and --format csv have them all.")
    parts.extend(f"warning: {warning}" for warning in forecast.warnings)
    return Sheet(*parts)


def prediction_sheet(prediction: Prediction, level: float) -> Sheet:
    """Return one prediction as a row, with where it comes from and what must hold."""
    assumes = "; ".join(prediction.assumptions) or "nothing"
    return Sheet(_table([prediction], level), f"Source: {prediction.source}.", f"Assumes: {assumes}.")


def _table(predictions: Sequence[Prediction], level: float, title: str | None = None) -> Table:
    table = Table("quantity", ">step", ">mean", f">{level:.0%} interval", "unit", "label", title=title)
    for p in predictions:
        table.add_row(str(p.quantity), p.where or str(p.step or ""), *_mean_and_interval(p, level), unit(p), p.label)
    return table


ROW_COLUMNS = 7
ROW_FIRST = (
    Quantity.DISPLACEMENT_NORM,
    Quantity.PROGRESS_PER_STEP,
    Quantity.GRADIENT_COSINE,
    Quantity.REWARD,
    Quantity.KL_DRIFT,
    Quantity.NORM_RATIO,
    Quantity.SIGNAL_SHARE_BOUND,
)
"""What a table of configurations shows first, where it differs."""


def rows_sheet(forecasts: Sequence[tuple[dict[str, Any], Forecast]], varied: Sequence[str]) -> Sheet:
    """Return one table with a row a configuration: the varied options, then the means that differ between rows.

    Of a quantity predicted at several steps the last is shown; of more quantities than fit, the first.

    `varied`: names of the options that differ, as in the configurations.
    """
    means = [{p.quantity: p.law.mean for p in forecast.predictions} for _, forecast in forecasts]
    ordered = dict.fromkeys((*ROW_FIRST, *Quantity))
    differing = [q for q in ordered if len({short(row.get(q, math.nan), 10) for row in means}) > 1]
    shown = differing[:ROW_COLUMNS]
    heads = [name.replace("_", "\n") for name in (*varied, *shown)]
    table = Table(*(f">{head}" for head in heads))
    for (config, _), row in zip(forecasts, means, strict=True):
        cells = [short(row[q]) if q in row else "-" for q in shown]
        table.add_row(*(short(config[name], 6) for name in varied), *cells)
    notes = list(dict.fromkeys(w for _, forecast in forecasts for w in forecast.warnings))
    left = len(differing) - len(shown)
    more = [f"{left} more quantities differ: --json shows all."] if left else []
    return Sheet(table, *more, *(f"warning: {note}" for note in notes))


def sentence(forecast: Forecast) -> str:
    """Return what the forecast means, in plain words."""
    words = []
    steps = [p.step or 0 for p in forecast.predictions if p.quantity is Quantity.DISPLACEMENT_NORM]
    step = max(steps, default=forecast.config.steps)
    if not steps:
        words.append("How far ES will move has no law here, as a warning below says")
    else:
        norm = forecast.get(Quantity.DISPLACEMENT_NORM, step)
        words.append(f"ES will move {short(norm.law.mean, 3)} weight units in {step} step{'s' if step > 1 else ''}")
        if norm.systematic:
            words[-1] += f" (give or take {norm.systematic:.0%} for {forecast.config.dtype} rounding)"
    found = {p.quantity: p for p in forecast.predictions if p.step in (step, 1, None) or "grpo" in p.quantity}
    if share := found.get(Quantity.SIGNAL_SHARE_BOUND):
        if share.law.mean >= 1:
            words.append("the bound on its signal says nothing here: dim is small for so many members and steps")
        else:
            words.append(
                f"at most {short(share.law.mean, 1)} of the squared norm can be signal, the rest is a random walk"
            )
    one_step = (p for p in forecast.predictions if p.quantity is Quantity.GRADIENT_COSINE and p.step in (1, None))
    if cosine := next(one_step, None):
        words.append(f"one step's cosine with the gradient is {short(cosine.law.mean, 2)} on average")
    if bound := found.get(Quantity.ES_GRPO_COSINE_BOUND):
        noise = 1 / math.sqrt(forecast.config.dim)
        words.append(
            f"its cosine with any GRPO solution is at most {short(bound.law.mean, 2)}, "
            f"plus sampling noise of about {short(noise, 2)}"
        )
    if ratio := found.get(Quantity.NORM_RATIO):
        words.append(
            f"that is {short(ratio.law.mean, 3)} times as far as GRPO, a ratio that the hyper-parameters set"
            if forecast_has_grpo(forecast)
            else f"that is {short(ratio.law.mean, 3)} times as far as GRPO"
        )
    return "; ".join(words) + "."


def forecast_has_grpo(forecast: Forecast) -> bool:
    """Return whether the GRPO norm is itself a prediction, from hyper-parameters."""
    return any(p.quantity is Quantity.GRPO_DISPLACEMENT_NORM for p in forecast.predictions)


def unit(of: Prediction | Measurement) -> str:
    """Return the unit of a quantity as tables write it."""
    return _UNITS.get(of.quantity.unit, of.quantity.unit)


def _mean_and_interval(prediction: Prediction, level: float) -> tuple[str, str]:
    """Return mean and interval with the digits that the spread supports."""
    law = prediction.law
    if law.std == 0.0:
        mean, interval = short(law.mean, 6), ""
    else:
        scale = max(abs(law.mean), law.std)
        digits = min(max(4, math.ceil(math.log10(scale / law.std)) + 2), 14)
        low, high = law.interval(level)
        mean, interval = short(law.mean, digits), f"{short(low, digits)} .. {short(high, digits)}"
    return mean, interval + (f" +-{100 * prediction.systematic:.2g}%" if prediction.systematic else "")
