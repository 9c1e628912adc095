"""What notebooks show of each kind of result: `estheory.shown.Shown` asks here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import singledispatch
from typing import TYPE_CHECKING, Any

from estheory.errors import MissingDependencyError
from estheory.measurement.displacement import Displacements
from estheory.measurement.remarks import remarks
from estheory.quantities import Measurement, Prediction, Verdict
from estheory.reporting.pictures.forecast import forecast_picture
from estheory.reporting.pictures.ledger import ledger_picture, outlook_picture
from estheory.reporting.pictures.measurements import measurements_picture
from estheory.reporting.pictures.picture import Picture
from estheory.reporting.pictures.pilot import pilot_picture
from estheory.reporting.pictures.plan import plan_picture
from estheory.reporting.pictures.verdicts import verdicts_picture
from estheory.reporting.records import records
from estheory.reporting.text.forecast import forecast_json, forecast_sheet, prediction_json, prediction_sheet
from estheory.reporting.text.ledger import entry_json, ledger_sheet, outlook_json, outlook_sheet
from estheory.reporting.text.measurements import (
    displacements_json,
    measurement_json,
    measurement_sheet,
    measurements_sheet,
)
from estheory.reporting.text.pilot import pilot_json, pilot_sheet
from estheory.reporting.text.plan import plan_json, plan_sheet
from estheory.reporting.text.tables import Sheet
from estheory.reporting.text.verdicts import validation_json, verdicts_sheet
from estheory.theory.economy.forecast import Outlook
from estheory.theory.economy.ledger import Ledger
from estheory.theory.economy.pilot import Pilot
from estheory.theory.planning.search import Plan
from estheory.theory.predictions import Forecast
from estheory.validation.judge import Verdicts, without_band

if TYPE_CHECKING:
    import pandas as pd

LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class View:
    """What can be shown of one result.

    Attributes
    ----------
    sheet
        Makes its tables.
    document
        Makes its JSON document.
    picture
        Makes its figure; None where it has none.
    """

    sheet: Callable[[], Sheet]
    document: Callable[[], dict[str, Any]]
    picture: Callable[[], Picture] | None = None

    def frame(self) -> pd.DataFrame:
        """Return the rows of the document as a data frame."""
        try:
            import pandas as pd
        except ImportError:
            raise MissingDependencyError("to_frame() needs pandas", "pip install pandas") from None
        return pd.DataFrame.from_records(records(self.document()))


@singledispatch
def view_of(result: object) -> View:
    """Return what can be shown of a result."""
    raise TypeError(f"a {type(result).__name__} has no view: register one in estheory/reporting/notebook.py")


@view_of.register
def _(forecast: Forecast) -> View:
    listed = [p.step for p in forecast.predictions if p.step is not None]
    config = {name: value for name, value in vars(forecast.config).items() if value is not None}
    return View(
        sheet=lambda: forecast_sheet(forecast, LEVEL),
        document=lambda: {"schema": "estheory/prediction/1", **forecast_json(forecast, config, LEVEL)},
        picture=lambda: forecast_picture({f"mean and {LEVEL:.0%} interval": forecast}, listed, LEVEL),
    )


@view_of.register
def _(prediction: Prediction) -> View:
    rows = {"config": {}, "predictions": [prediction_json(prediction, LEVEL)]}
    return View(
        sheet=lambda: prediction_sheet(prediction, LEVEL), document=lambda: {"schema": "estheory/prediction/1", **rows}
    )


@view_of.register
def _(measurement: Measurement) -> View:
    rows = [measurement_json(measurement)]
    return View(
        sheet=lambda: measurement_sheet(measurement),
        document=lambda: {"schema": "estheory/measurement/1", "measurements": rows},
    )


@view_of.register
def _(verdicts: Verdicts) -> View:
    plain = without_band(verdicts, verdicts.level)
    return View(
        sheet=lambda: verdicts_sheet(verdicts, plain, verdicts.level, shown_by="to_frame()"),
        document=lambda: validation_json(verdicts, plain, verdicts.level),
        picture=lambda: verdicts_picture(verdicts),
    )


@view_of.register
def _(verdict: Verdict) -> View:
    return view_of(Verdicts([verdict]))


@view_of.register
def _(plan: Plan) -> View:
    warnings = plan.planner.warnings(plan.recommendation, False) if plan.recommendation else ()
    return View(
        sheet=lambda: plan_sheet(plan, warnings),
        document=lambda: plan_json(plan, {}, warnings),
        picture=lambda: plan_picture(plan),
    )


@view_of.register
def _(pilot: Pilot) -> View:
    return View(
        sheet=lambda: pilot_sheet(pilot, (), None),
        document=lambda: pilot_json(pilot, (), None),
        picture=lambda: pilot_picture(pilot),
    )


@view_of.register
def _(outlook: Outlook) -> View:
    return View(
        sheet=lambda: outlook_sheet(outlook),
        document=lambda: outlook_json(outlook),
        picture=lambda: outlook_picture(outlook),
    )


@view_of.register
def _(book: Ledger) -> View:
    return View(
        sheet=lambda: ledger_sheet(book),
        document=lambda: {"schema": "estheory/forecast/1", "ledger": [entry_json(entry) for entry in book.entries]},
        picture=lambda: ledger_picture(book),
    )


@view_of.register
def _(measured: Displacements) -> View:
    rows = measured.measurements()
    return View(
        sheet=lambda: measurements_sheet(rows, measured.labels, sum(measured.tensors.values()), remarks(measured)),
        document=lambda: displacements_json(measured, rows, [*measured.problems, *measured.notes]),
        picture=lambda: measurements_picture(rows, measured.labels),
    )
