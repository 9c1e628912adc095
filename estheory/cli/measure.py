"""``estheory measure``: geometry of checkpoints or of a run directory."""

# no postponed annotations: see options.py

from pathlib import Path
from typing import Annotated

import typer

from estheory.cli.emit import cite, show, warn
from estheory.cli.options import Command, MeasureOptions, TableOptions, options, program

app = program()


@app.command(cls=Command, epilog="estheory measure tiny-lm runs/es/checkpoints/step_000100.safetensors")
@options(MeasureOptions, TableOptions)
def measure(
    how: MeasureOptions,
    common: TableOptions,
    targets: Annotated[
        list[Path], typer.Argument(metavar="TARGET...", help="RUN_DIR, or BASE CHECKPOINT [CHECKPOINT ...].")
    ],
    alpha: Annotated[float | None, typer.Option(help="ES step size, for effective-dimension ratios.")] = None,
    population: Annotated[int | None, typer.Option(help="ES population, for the same.")] = None,
    steps: Annotated[tuple[int, ...], typer.Option(help="Step of each checkpoint whose name does not tell it.")] = (),
    plot: Annotated[Path | None, typer.Option(help="Draw norms by layer and module to this file.")] = None,
    model: Annotated[
        str | None, typer.Option(help="Base of a run directory of another code: a file, folder, name or hub id.")
    ] = None,
) -> None:
    """Measure how far checkpoints moved: norms, ratios, cosines, shape of the changes. Never builds the model."""
    from estheory.cli.measuring import FACTORS_REMEDY, displacements_of, variances_of, walking_factors
    from estheory.measurement.remarks import remarks
    from estheory.reporting.text.measurements import displacements_json, measurements_sheet

    measured = displacements_of(targets, how, steps=steps or (), model=model)
    measurements = measured.measurements(variances_of(targets, measured, alpha, population))
    warnings = [*measured.problems, *measured.notes]
    if alpha is not None and (factors := walking_factors(targets)):
        warnings.append(f"no ratios: {factors}; {FACTORS_REMEDY}")
    if plot is not None:
        from estheory.reporting.pictures.measurements import measurements_picture

        measurements_picture(measurements, measured.labels).save(plot)
    size = sum(measured.tensors.values())
    show(
        common,
        lambda: displacements_json(measured, measurements, warnings),
        lambda: measurements_sheet(measurements, measured.labels, size, remarks(measured)),
    )
    warn(common, warnings)
    cite(common)
