"""Lines around two solutions as text, as JSON, and as sections of a page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from estheory._special import Array
from estheory.line_scores import LineStudy
from estheory.quantities import Quantity, Verdict
from estheory.reporting.page import figures, probe_figures
from estheory.reporting.page.page import Section
from estheory.reporting.text.measurements import measurement_json
from estheory.reporting.text.tables import Sheet, Table, short
from estheory.reporting.text.verdicts import validation_json, verdicts_sheet
from estheory.validation.line_pairs import slope_rises

TITLES = {"accuracy": "accuracy", "logprob": "log-probability (nat)"}
WORDS = {"accuracy": "Accuracy", "logprob": "The log-probability of the reference answers"}
QUANTITIES = {"accuracy": Quantity.ACCURACY, "logprob": Quantity.LOG_PROBABILITY}


def lines_json(studies: Sequence[LineStudy], verdicts: Sequence[Verdict], level: float) -> dict[str, Any]:
    """Return curves with their standard errors, the probes, and the verdicts as one JSON document.

    `studies`: of one start and end, a score each.
    """
    curves = []
    for study in studies:
        start, end = study.labels
        source = f"{start}|{end}"
        measured = study.line.measurements(where=source, source=study.score, quantity=QUANTITIES[study.score])
        curves.append(
            {
                "score": study.score,
                "start": start,
                "end": end,
                "norms": dict(study.norms),
                "length": study.length,
                "prompts": study.line.scores.shape[1],
                "line": {
                    "u": study.line.fractions.tolist(),
                    "mean": study.line.means.tolist(),
                    "stderr": study.line.stderrs.tolist(),
                    "rise": study.line.rises.tolist(),
                    "rise_stderr": study.line.rise_stderrs.tolist(),
                    "predicted_rise": predicted_rises(study).tolist(),
                },
                "random_lines": {"rises": study.random_rises.mean(axis=1).tolist()},
                "along": {
                    "distance": study.directions.radii.tolist(),
                    **{
                        label: {
                            "mean": study.directions.means[k].tolist(),
                            "stderr": study.directions.stderrs[k].tolist(),
                            "change_stderr": change_stderrs(study)[k].tolist(),
                            "predicted": None if (curve := predicted_along(study, label)) is None else curve.tolist(),
                        }
                        for k, label in enumerate(study.directions.labels)
                    },
                },
                "measurements": [measurement_json(m) for m in measured],
            }
        )
    return {"schema": "estheory/lines/1", "lines": curves, **_judged(verdicts, level)}


def _judged(verdicts: Sequence[Verdict], level: float) -> dict[str, Any]:
    document = validation_json(verdicts, verdicts, level)
    return {key: document[key] for key in ("level", "verdicts", "summary")}


def lines_sheet(studies: Sequence[LineStudy], verdicts: Sequence[Verdict], level: float) -> Sheet:
    """Return a table a line and a table a fan of directions, then the verdicts.

    `studies`: of one start and end, a score each.
    """
    parts: list[Any] = []
    for study in studies:
        start, end = study.labels
        between = Table(">u", f">{TITLES[study.score]}", ">over the chord", ">predicted")
        rows = zip(
            *(study.line.fractions, study.line.means, study.line.stderrs),
            *(study.line.rises, study.line.rise_stderrs, predicted_rises(study)),
            strict=True,
        )
        for u, mean, error, rise, rise_error, predicted in rows:
            between.add_row(
                f"{u:.2g}", f"{mean:.4f} ± {error:.4f}", f"{rise:+.4f} ± {rise_error:.4f}", f"{predicted:+.4f}"
            )
        fan = Table(">distance", *(f">{label}" for label in study.directions.labels))
        columns = [study.directions.means, study.directions.stderrs]
        for k, radius in enumerate(study.directions.radii.tolist()):
            fan.add_row(
                short(radius), *(f"{m:.4f} ± {e:.4f}" for m, e in zip(*(c[:, k] for c in columns), strict=True))
            )
        parts += [f"{WORDS[study.score]} from {start} (u = 0) to {end} (u = 1), {short(study.length)} apart:", between]
        parts += ["Along directions from the base:", fan]
    return Sheet(*parts) + verdicts_sheet(verdicts, verdicts, level)


def predicted_rises(study: LineStudy) -> Array:
    """Return the rises over the chord that the slopes at the ends predict."""
    u = study.line.fractions
    return np.asarray(4 * u * (1 - u) * float(slope_rises(study).mean()))


def predicted_along(study: LineStudy, label: str) -> Array | None:
    """Return the local quadratic along one direction.

    Result: shape (R,), in the unit of the score, at each distance; None if the direction was not probed.
    """
    r, base = study.directions.radii, float(study.directions.means[0, 0])
    if label == study.directions.labels[-1] and study.around_base is not None:
        return np.asarray(base - 0.5 * r**2 * float(study.around_base.values.mean()))
    if label not in study.local:
        return None
    local = study.local[label]
    return np.asarray(base + r * float(local.slopes.mean()) - 0.5 * r**2 * float(local.curvatures.mean()))


def change_stderrs(study: LineStudy) -> Array:
    """Return standard errors of the change from the base, prompt by prompt.

    Result: shape (D, R), in the unit of the score, by direction and distance.
    """
    changes = study.directions.scores - study.directions.scores[:, :1]
    return np.asarray(changes.std(axis=2, ddof=1) / np.sqrt(changes.shape[2]))


def line_sections(studies: Sequence[LineStudy]) -> list[Section]:
    """Show the lines, then the fans of directions.

    `studies`: of one start and end, a score each.
    Result: one each, with what was measured in one sentence.
    """
    found = []
    for study in studies:
        start, end = study.labels
        line, word = study.line, WORDS[study.score]
        rise, error = line.middle_rise
        expected, others = float(slope_rises(study).mean()), float(study.random_rises.mean())
        verb = "above" if rise > 2 * error else "below" if rise < -2 * error else "within its error of"
        found.append(
            Section(
                title=f"Between the solutions: {TITLES[study.score]}",
                sentence=(
                    f"{word} half-way from {start} to {end} differs by {_signed(rise)} ± {error:.2g} from the mean of "
                    f"both ends ({verb} it); the slopes at the ends predict {_signed(expected)}, a line of this length "
                    f"in a random direction {_signed(others)}."
                ),
                figure_svg=figures.interpolation(
                    line,
                    start=start,
                    end=end,
                    score=TITLES[study.score],
                    predicted_rises=predicted_rises(study),
                ),
            )
        )
    for study in studies:
        probe = study.directions
        series = [
            figures.Series(
                label=label,
                values=probe.means[k],
                steps=probe.radii,
                stderrs=probe.stderrs[k],
                predicted=None
                if (curve := predicted_along(study, label)) is None
                else figures.Band(low=curve, mean=curve, high=curve),
            )
            for k, label in enumerate(probe.labels)
        ]
        found.append(
            Section(
                title=f"Along directions: {TITLES[study.score]}",
                sentence=_fan_sentence(study),
                figure_svg=probe_figures.direction_lines(series, score=TITLES[study.score]),
            )
        )
    return found


def _fan_sentence(study: LineStudy) -> str:
    probe, far = study.directions, max(study.norms.values())
    at = int(np.argmin(np.abs(probe.radii - far)))
    errors = change_stderrs(study)
    changes = [
        f"{_signed(float(probe.means[k, at] - probe.means[k, 0]))} ± {errors[k, at]:.2g} along {label}"
        for k, label in enumerate(probe.labels)
    ]
    return f"{WORDS[study.score]} changes from the base, at distance {far:.3g}, by {', '.join(changes)}."


def _signed(value: float) -> str:
    return f"{value:+.3g}".replace("-", "−")
