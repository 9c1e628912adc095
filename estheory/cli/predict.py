"""``estheory predict``: closed-form geometry of one or many configurations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from estheory.cli.case import forecast_of, rounding_of
from estheory.cli.emit import cite, emit, json_text
from estheory.cli.es_options import cases
from estheory.cli.options import CommonOptions, ESOptions, checked_level, choice, options
from estheory.errors import ConfigError

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
@options(ESOptions, CommonOptions)
def predict(
    es: ESOptions,
    common: CommonOptions,
    plot: Annotated[Path | None, typer.Option(help="Draw the predictions along the steps to this file.")] = None,
    explain: Annotated[str | None, typer.Option(help="Say what a quantity is, its formula and where it fails.")] = None,
    tensors: Annotated[
        bool, typer.Option("--tensors", help="With --weights and --dtype: what rounding does to each tensor.")
    ] = False,
    level: Annotated[float, typer.Option(help="Probability of the intervals.")] = 0.95,
) -> None:
    """Predict the geometry of an ES run before it is run: on-task progress, off-task drift, geometry."""
    from estheory.quantities import Quantity
    from estheory.reporting.forecast_plot import plot_forecast
    from estheory.reporting.text.explain import explain as explain_quantity
    from estheory.reporting.text.forecast import forecast_json, forecast_text, rows_text
    from estheory.reporting.text.rounding import rounding_json, rounding_text

    checked_level(level)
    if explain is not None:
        choice("explain", explain, tuple(Quantity), "")
        described = es != ESOptions()
        found = forecast_of(cases(es)[0][0]).predictions if described else ()
        explained = [p for p in found if p.quantity == explain]
        emit(common, explain_quantity(Quantity.named(explain), explained))
        cite(common, explained)
        return
    rows, varied = cases(es)
    rounding = [rounding_of(case, common.seed or 0) for case in rows]
    forecasts = [(case.shown, forecast_of(case, r)) for case, r in zip(rows, rounding, strict=True)]
    by_name = [(r.tensors, r.layers) if r and r.tensors and r.layers else None for r in rounding]
    if tensors and (varied or by_name[0] is None):
        raise ConfigError(
            "--tensors needs one configuration whose tensors are known", "give --weights CHECKPOINT and --dtype"
        )
    if plot is not None:
        if varied:
            raise ConfigError("--plot draws one configuration", "give one number for each option but --steps")
        plot_forecast(forecasts[0][1], plot, level)
    if common.json:
        documents = [
            forecast_json(forecast, shown, level) | (rounding_json(*parts) if parts else {})
            for (shown, forecast), parts in zip(forecasts, by_name, strict=True)
        ]
        body = documents[0] if not varied else {"rows": documents}
        emit(common, json_text({"schema": "estheory/prediction/1", **body}))
    elif varied:
        emit(common, rows_text(forecasts, varied))
    else:
        text = forecast_text(forecasts[0][1], level)
        emit(common, text + rounding_text(*by_name[0]) if tensors and by_name[0] else text)
    cite(common, [p for _, forecast in forecasts for p in forecast.predictions])
