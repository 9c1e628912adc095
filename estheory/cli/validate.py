"""``estheory validate``: predictions against measurements."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from estheory.cli.emit import emit, json_text, warn
from estheory.cli.measure import MeasureOptions
from estheory.cli.options import CommonOptions, ESOptions, options
from estheory.errors import ConfigError
from estheory.quantities import Measurement, NotJudged, Prediction

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
@options(ESOptions, MeasureOptions, CommonOptions)
def validate(
    es: ESOptions,
    how: MeasureOptions,
    common: CommonOptions,
    targets: Annotated[list[str], typer.Argument(help="published, or RUN_DIR, or BASE CHECKPOINT [CHECKPOINT ...].")],
    level: Annotated[float, typer.Option(help="Family-wise level (Holm).")] = 0.05,
) -> None:
    """Judge predictions against measurements; the ES options describe the run behind BASE CHECKPOINT.

    Exit code 3 if any prediction is refuted, 4 if none is consistent.
    """
    from estheory.reporting.verdicts import validation_json, verdicts_text
    from estheory.validation.judge import exit_code, judge, without_band

    if not 0 < level < 1:
        raise ConfigError(f"--level must lie between 0 and 1, got {level}", "0.05 is common")
    pairs, unpredicted, problems = _pairs(targets, es, how)
    verdicts = judge(pairs, level)
    plain = without_band(verdicts, level)
    if common.json:
        emit(common, json_text(validation_json(verdicts, plain, level, unpredicted) | {"warnings": list(problems)}))
    else:
        emit(common, verdicts_text(verdicts, plain, level, unpredicted))
    warn(problems)
    raise typer.Exit(exit_code(verdicts))


def _pairs(
    targets: Sequence[str], es: ESOptions, how: MeasureOptions
) -> tuple[Sequence[tuple[Prediction, Measurement]], Sequence[NotJudged], Sequence[str]]:
    """Return predictions with measurements, figures without a prediction, and what was left out."""
    if list(targets) == ["published"]:
        from estheory.validation.published import published_pairs

        if es != ESOptions():
            raise ConfigError("the ES options describe the run behind BASE CHECKPOINT", "leave them out here")
        return *published_pairs(), ()
    from estheory.cli.measuring import checkpoint_pairs, foreign_record, recorded_pairs
    from estheory.validation.records import is_run

    if len(targets) == 1 and not is_run(Path(targets[0])):
        record = foreign_record(Path(targets[0]), es, how)
        return record.pairs, record.shown, record.notes
    if len(targets) == 1:
        pairs, problems = recorded_pairs(Path(targets[0]), es, how)
    else:
        pairs, problems = checkpoint_pairs([Path(target) for target in targets], es, how)
    return pairs, (), problems
