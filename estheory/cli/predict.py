"""``estheory predict``: closed-form geometry of one or many configurations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from estheory.cli import complete
from estheory.cli.case import Case, forecast_of, rounding_of
from estheory.cli.emit import cite, emit, show
from estheory.cli.es_options import (
    RULES,
    GradientOptions,
    ModelOptions,
    OffTaskOptions,
    SignalOptions,
    WeightOptions,
    cases,
)
from estheory.cli.measured import NOT_OPTIONS, MeasuredOptions, measured
from estheory.cli.options import Command, TableOptions, choice, given_in, options, program
from estheory.cli.values import level as probability
from estheory.errors import ConfigError

if TYPE_CHECKING:
    from estheory.reporting.text.tables import Sheet
    from estheory.theory.predictions import Forecast

app = program()


@app.command(
    cls=Command,
    epilog="estheory predict --dim 4e9 --sigma 0.0015 --population 30 --steps 100,200 --reliability 0.2",
)
@options(
    ModelOptions,
    RULES,
    SignalOptions,
    MeasuredOptions,
    WeightOptions,
    OffTaskOptions,
    GradientOptions,
    TableOptions,
)
def predict(
    model: ModelOptions,
    rules: Mapping[str, Any],
    signal: SignalOptions,
    files: MeasuredOptions,
    weights: WeightOptions,
    off_task: OffTaskOptions,
    gradient: GradientOptions,
    common: TableOptions,
    plot: Annotated[Path | None, typer.Option(help="Draw the predictions along the steps to this file.")] = None,
    explain: Annotated[
        str | None,
        typer.Option(
            help="Say what a quantity is, its formula and where it fails.", autocompletion=complete.quantities
        ),
    ] = None,
    tensors: Annotated[
        bool, typer.Option("--tensors", help="With --weights and --dtype: what rounding does to each tensor.")
    ] = False,
    level: Annotated[float, typer.Option(help="Probability of the intervals.", parser=probability)] = 0.95,
) -> None:
    """Predict the geometry of an ES run before it is run: on-task progress, off-task drift, geometry.

    A comma list in a number option makes a row for each of its numbers.
    """
    from estheory.reporting.text.forecast import forecast_json, forecast_sheet, rows_sheet

    groups: tuple[object, ...] = (model, rules, signal, weights, off_task, gradient)
    found_in = measured(common, files, given_in(*groups))
    groups += ({name: (value,) for name, value in found_in.items() if name not in NOT_OPTIONS},)
    if explain is not None:
        from estheory.quantities import Quantity
        from estheory.reporting.text.quantity_notes import explain as explain_quantity

        choice("explain", explain, tuple(Quantity))
        found = forecast_of(cases(*groups)[0][0]).predictions if given_in(*groups) else ()
        explained = [p for p in found if p.quantity == explain]
        emit(common, explain_quantity(Quantity.named(explain), explained))
        cite(common, explained)
        return
    rows, varied = cases(*groups)
    rounding = [rounding_of(case, common.seed or 0) for case in rows]
    forecasts = [(case.shown, forecast_of(case, r)) for case, r in zip(rows, rounding, strict=True)]
    if "gradient_norm" in found_in and "even_variance" in found_in:
        forecasts = [(shown, _with_motion(f, case, found_in)) for (shown, f), case in zip(forecasts, rows, strict=True)]
    by_name = [(r.tensors, r.layers) if r and r.tensors and r.layers else None for r in rounding]
    if any(by_name):
        from estheory.reporting.text.rounding import rounding_json, rounding_sheet
    if tensors and (varied or by_name[0] is None):
        raise ConfigError(
            "--tensors needs one configuration whose tensors are known", "give --weights CHECKPOINT and --dtype"
        )
    if plot is not None:
        _draw(rows, varied, plot, level)

    def document() -> dict[str, Any]:
        documents = [
            forecast_json(forecast, shown, level) | (rounding_json(*parts) if parts else {})
            for (shown, forecast), parts in zip(forecasts, by_name, strict=True)
        ]
        return {"schema": "estheory/prediction/1"} | (documents[0] if not varied else {"rows": documents})

    def sheet() -> Sheet:
        if varied:
            return rows_sheet(forecasts, varied)
        shown = forecast_sheet(forecasts[0][1], level)
        return shown + rounding_sheet(*by_name[0]) if tensors and by_name[0] else shown

    show(common, document, sheet, list(dict.fromkeys(w for _, forecast in forecasts for w in forecast.warnings)))
    cite(common, [p for _, forecast in forecasts for p in forecast.predictions])


def _with_motion(forecast: Forecast, case: Case, measured_as: Mapping[str, float]) -> Forecast:
    """Put in how far the run is carried along its gradients, as measured before it, in place of a constant gradient."""
    from estheory.theory.economy.planned_motion import planned_gain, planned_predictions

    if case.reward is None:
        return forecast
    even, trace = measured_as["even_variance"], measured_as.get("curvature_trace", 0.0)
    found = list(planned_predictions(case.config, case.reward, even, case.checkpoints))
    if case.grpo is not None:
        found += planned_gain(case.config, case.reward, even_variance=even, trace=trace, steps=case.checkpoints)
    told = {(p.quantity, p.step) for p in found}
    kept = [p for p in forecast.predictions if (p.quantity, p.step) not in told]
    silent = tuple(f"no {quantity}:" for quantity, _ in told)
    warnings = tuple(warning for warning in forecast.warnings if not warning.startswith(silent))
    return replace(forecast, predictions=(*kept, *found), warnings=warnings)


def _draw(rows: Sequence[Case], varied: Sequence[str], path: Path, level: float) -> None:
    """Draw smooth curves along the steps, one for each configuration; at the steps given alone where rounding acts."""
    from estheory.reporting.pictures.forecast import MOST_CURVES, curve_steps, forecast_picture
    from estheory.reporting.text.tables import short

    if len(rows) > MOST_CURVES:
        raise ConfigError(f"--plot draws at most {MOST_CURVES} configurations, not {len(rows)}", "give shorter lists")
    curves = {}
    for case in rows:
        smooth = case.config.dtype == "float32"
        steps = curve_steps(max(case.checkpoints), case.checkpoints) if smooth else case.checkpoints
        told = ", ".join(f"{option} {short(case.shown[option])}" for option in varied)
        curves[told or f"mean and {level:.0%} interval"] = forecast_of(replace(case, checkpoints=steps))
    forecast_picture(curves, rows[0].checkpoints, level).save(path)
