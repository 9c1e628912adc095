"""``estheory validate``: predictions against measurements."""

# no postponed annotations: see options.py

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from estheory.cli.emit import cite, show, warn
from estheory.cli.es_options import RULES, ModelOptions, SignalOptions, WeightOptions
from estheory.cli.options import Command, MeasureOptions, TableOptions, given_in, options, program
from estheory.cli.values import level as probability
from estheory.errors import ConfigError

if TYPE_CHECKING:
    from estheory.validation.judge import Evidence

DESCRIBED = (
    "What usually explains a refuted checkpoint: alpha other than sigma/2, steps in which all rewards tied, a dtype "
    "or update path other than given, in 16 bits rewards far from normal (few prompts right). validate RUN_DIR reads "
    "all of these from the run's own records."
)
"""Stands below the table where the options, and no record, describe the run."""

app = program()


@app.command(cls=Command, epilog="estheory validate published")
@options(ModelOptions, RULES, SignalOptions, WeightOptions, MeasureOptions, TableOptions)
def validate(
    model: ModelOptions,
    rules: Mapping[str, Any],
    signal: SignalOptions,
    weights: WeightOptions,
    how: MeasureOptions,
    common: TableOptions,
    targets: Annotated[
        list[str],
        typer.Argument(
            metavar="TARGET...", help="published, or RUN_DIR [RUN_DIR ...], or BASE CHECKPOINT [CHECKPOINT ...]."
        ),
    ],
    level: Annotated[float, typer.Option(help="Family-wise level (Holm).", parser=probability)] = 0.05,
    plot: Annotated[Path | None, typer.Option(help="Draw measured over predicted, by quantity, to this file.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Show every verdict, however many there are.")] = False,
) -> None:
    """Judge predictions against measurements.

    For BASE CHECKPOINT, describe the run: --sigma and --population are needed, and --steps unless the names of the
    checkpoints tell them (step_20). What would explain a refuted norm or cosine stands below the table. A run
    directory of this package describes itself; --model names its base if it has moved. Of several such runs, what every
    two have in common is judged too.

    Exit code 3 if any prediction is refuted, 4 if none is consistent.
    """
    from estheory.measurement.remarks import left_out_rows, remarks, renamed_rows
    from estheory.reporting.text.explanations import explanations_json, explanations_sheet
    from estheory.reporting.text.tables import Sheet
    from estheory.reporting.text.verdicts import validation_json, verdicts_sheet
    from estheory.validation.explanations import explain, explain_published, indistinguishable
    from estheory.validation.judge import exit_code, judge, without_band

    evidence = _evidence(targets, given_in(model, rules, signal, weights), how)
    verdicts = judge(evidence.pairs, level)
    explained = explain(verdicts, evidence.claims) if evidence.claims else explain_published(verdicts)
    unseen = indistinguishable(verdicts, evidence.claims) if evidence.claims else ()
    plain, seen = without_band(verdicts, level), evidence.measured
    if plot is not None:
        from estheory.reporting.pictures.verdicts import verdicts_picture

        verdicts_picture(verdicts).save(plot)
    described = [DESCRIBED] if len(targets) > 1 and any(not e.candidates for e in explained) else []
    show(
        common,
        lambda: (
            validation_json(verdicts, plain, level, evidence.unpredicted)
            | explanations_json(explained, evidence.findings, unseen)
            | {"warnings": list(evidence.notes)}
            | ({"left_out": left_out_rows(seen.left_out), "renamed": renamed_rows(seen)} if seen else {})
        ),
        lambda: (
            verdicts_sheet(verdicts, plain, level, evidence.unpredicted, every=every, shown_by="--all")
            + explanations_sheet(explained, evidence.findings, unseen)
            + Sheet(*described, *(remarks(seen) if seen else ()))
        ),
    )
    warn(common, evidence.notes)
    cite(common, [used for v in verdicts for used in (v.prediction, v.measurement)])
    raise typer.Exit(exit_code(verdicts))


def _evidence(targets: Sequence[str], es: Mapping[str, Any], how: MeasureOptions) -> "Evidence":
    if list(targets) == ["published"]:
        from estheory.validation.published import published_pairs
        from estheory.validation.reward_facts import reward_fact_pairs

        if es:
            raise ConfigError("the ES options describe the run behind BASE CHECKPOINT", "leave them out here")
        figures = published_pairs()
        return replace(figures, pairs=[*figures.pairs, *reward_fact_pairs()])
    from estheory.cli.measuring import evidence_of

    return evidence_of([Path(target) for target in targets], es, how)
