"""``estheory predict``: closed-form geometry of one or many configurations."""

from __future__ import annotations

from typing import Annotated

import typer

from estheory.cli.emit import emit, json_text
from estheory.cli.es_options import cases
from estheory.cli.options import CommonOptions, ESOptions, options
from estheory.errors import ConfigError

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
@options(ESOptions, CommonOptions)
def predict(
    es: ESOptions,
    common: CommonOptions,
    level: Annotated[float, typer.Option(help="Probability of the intervals.")] = 0.95,
) -> None:
    """Predict the geometry of an ES run before it is run: on-task progress, off-task drift, geometry."""
    from estheory.reporting.forecast import forecast_json, forecast_text, rows_text
    from estheory.theory import predictions

    if not 0 < level < 1:
        raise ConfigError(f"--level must lie between 0 and 1, got {level}", "0.95 is common")
    rows, varied = cases(es)
    forecasts = [
        (
            case.shown,
            predictions.predict(
                case.config,
                checkpoints=case.checkpoints,
                reward=case.reward,
                shapes=case.shapes,
                weights=case.weights,
                grpo=case.grpo,
            ),
        )
        for case in rows
    ]
    if common.json:
        documents = [forecast_json(forecast, shown, level) for shown, forecast in forecasts]
        body = documents[0] if not varied else {"rows": documents}
        emit(common, json_text({"schema": "estheory/prediction/1", **body}))
    elif varied:
        emit(common, rows_text(forecasts, varied))
    else:
        emit(common, forecast_text(forecasts[0][1], level))
