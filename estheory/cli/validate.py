"""``estheory validate``: predictions against measurements."""

from __future__ import annotations

from typing import Annotated

import typer

from estheory.cli.emit import emit, json_text
from estheory.cli.options import CommonOptions, options
from estheory.errors import ConfigError

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
@options(CommonOptions)
def validate(
    common: CommonOptions,
    target: Annotated[str, typer.Argument(help="'published': measurements of real GPU runs, shipped with sources.")],
    level: Annotated[float, typer.Option(help="Family-wise level (Holm).")] = 0.05,
) -> None:
    """Judge predictions against measurements. Exit code 3 if any is refuted, 4 if none is consistent."""
    from estheory.reporting.verdicts import validation_json, verdicts_text
    from estheory.validation.judge import exit_code, judge, without_band
    from estheory.validation.published import published_pairs

    if not 0 < level < 1:
        raise ConfigError(f"--level must lie between 0 and 1, got {level}", "0.05 is common")
    if target != "published":
        raise ConfigError(f"validate knows no target '{target}'", "use 'published'")
    pairs, unpredicted = published_pairs()
    verdicts = judge(pairs, level)
    plain = without_band(verdicts, level)
    if common.json:
        emit(common, json_text(validation_json(verdicts, plain, level, unpredicted)))
    else:
        emit(common, verdicts_text(verdicts, plain, level, unpredicted))
    raise typer.Exit(exit_code(verdicts))
