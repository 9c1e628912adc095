"""``estheory measure``: geometry of checkpoints or of a run directory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from estheory.cli.emit import emit, json_text
from estheory.cli.options import CommonOptions, options
from estheory.errors import ConfigError

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
@options(CommonOptions)
def measure(
    common: CommonOptions,
    targets: Annotated[list[Path], typer.Argument(help="RUN_DIR, or BASE CHECKPOINT [CHECKPOINT ...].")],
) -> None:
    """Measure displacement norms, tensor by tensor, and the cosines of checkpoints. Never builds the model."""
    from estheory.cli.measuring import displacements_of
    from estheory.reporting.measurements import measurement_json, measurements_text
    from estheory.validation.records import is_run

    if len(targets) == 1 and not is_run(targets[0]):
        raise ConfigError(
            f"{targets[0]} is no run directory", "give a base and its checkpoints, or the folder of a run"
        )
    measurements = displacements_of(targets).measurements()
    if common.json:
        rows = [measurement_json(m) for m in measurements]
        emit(common, json_text({"schema": "estheory/measurement/1", "measurements": rows}))
    else:
        emit(common, measurements_text(measurements))
