"""One self-contained HTML page about any number of runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from estheory.files import reading
from estheory.quantities import Quantity, Verdict
from estheory.reporting.page import behaviour_sections, ledger_section, weight_sections
from estheory.reporting.page.page import Section, Table, html_page
from estheory.reporting.page.sequence_page import missing_section, sequence_sections
from estheory.reporting.page.verdict_section import verdict_section
from estheory.reporting.text.verdicts import summary, tensor_sentence
from estheory.runs.sequence import SequenceRecord
from estheory.runs.view import OwnRun
from estheory.theory.economy.ledger import Ledger

BETWEEN = "between and along"
"""The name under which verdicts on the lines around two runs are judged."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a page about runs shows.

    Attributes
    ----------
    judged
        Verdicts of each run by its name, in the order of the page, all judged together at `level`.
    plain
        The same verdicts without systematic bands.
    level
        Family-wise level.
    runs
        Records of those that this package made.
    ledgers
        What those that are no stage of a sequence earned and paid, where their rows tell it: the first picture.
    cosines
        Cosines between the end points of runs from one base, by ``a|b``.
    dim
        Number of parameters that those cosines are over.
    evaluated
        Sections on what the model was evaluated for, ready to be shown.
    sequences
        Sequences of tasks whose stages are among those judged, by the name that precedes their stages'.
    missing
        Parts that are not complete, one line each.
    notes
        What was left out and why.
    """

    judged: Mapping[str, Sequence[Verdict]]
    plain: Sequence[Verdict]
    level: float
    runs: Mapping[str, OwnRun]
    ledgers: Mapping[str, Ledger] = field(default_factory=dict)
    cosines: Mapping[str, float] = field(default_factory=dict)
    dim: int = 1
    evaluated: Sequence[Section] = ()
    sequences: Mapping[str, SequenceRecord] = field(default_factory=dict)
    missing: Sequence[str] = ()
    notes: Sequence[str] = ()

    @property
    def verdicts(self) -> list[Verdict]:
        """All verdicts, run by run."""
        return [verdict for one in self.judged.values() for verdict in one]


def report_page(report: Report) -> str:
    """Return the page as HTML."""
    counts = ", ".join(f"{n} {kind}" for kind, n in summary(report.verdicts).items())
    names = [*report.sequences, *(name for name in _apart(report) if name != BETWEEN)]
    title = f"estheory report: {names[0]}" if len(names) == 1 else f"estheory report: {len(names)} runs"
    judged = f"{len(report.verdicts)} prediction{'s' * (len(report.verdicts) != 1)} of {', '.join(names)} judged"
    words = [f"{judged}: {counts}.", tensor_sentence(report.verdicts)]
    words += [_sequence_words(name, sequence) for name, sequence in report.sequences.items()]
    return html_page(
        title=title,
        summary="\n\n".join(word for word in words if word),
        verdicts=report.verdicts,
        plain=report.plain,
        level=report.level,
        opening=[section for section in _opening(report) if section is not None],
        sections=[section for section in _sections(report) if section is not None],
    )


def _sequence_words(name: str, sequence: SequenceRecord) -> str:
    done = sum(bool(stage.done) for stage in sequence.stages)
    return (
        f"{name}: {' → '.join(sequence.tasks)}, by {' and '.join(m.upper() for m in sequence.methods)}, "
        f"{len(sequence.seeds)} seed{'s' * (len(sequence.seeds) > 1)}; "
        f"{done} of {len(sequence.stages)} stages are finished."
    )


def _apart(report: Report) -> list[str]:
    """Return the names of what was judged and is no stage of a sequence."""
    stages = {stage.name for sequence in report.sequences.values() for stage in sequence.stages}
    return [name for name in report.judged if name not in stages]


def _opening(report: Report) -> list[Section | None]:
    ledger = ledger_section.ledger_section(report.ledgers) if report.ledgers else None
    return [missing_section(report.missing), ledger, verdict_section(report.verdicts)]


def _sections(report: Report) -> list[Section | None]:
    apart = _apart(report)
    runs = {name: run for name, run in report.runs.items() if name in apart}
    found: list[Section | None] = []
    for sequence in report.sequences.values():
        with reading(sequence.path):
            found += sequence_sections(sequence, report.judged)
    series = []
    for name in apart:
        one = weight_sections.norm_series(name, runs[name]) if name in runs else None
        if one is None or (one.predicted is None and runs[name].method == "es"):
            one = weight_sections.judged_norm_series(name, report.judged[name]) or one
        series.append(one)
    single = [verdict for name in apart for verdict in report.judged[name]]
    norms = [one for one in series if one is not None]
    if norms:
        found.append(weight_sections.distance_section(norms, _distance_sentence(single)))
    for name in apart:
        if any(v.measurement.where.startswith("tensor:") for v in report.judged[name]):
            found.append(weight_sections.layer_section(f"Layer by layer: {name}", report.judged[name]))
    if report.cosines:
        sentence = weight_sections.cosine_sentence(report.cosines, report.dim)
        found.append(weight_sections.cosine_section(report.cosines, report.dim, sentence))
    if behaviour_sections.accuracy_rows(runs):
        found.append(behaviour_sections.accuracy_section(runs, behaviour_sections.accuracy_sentence(runs)))
    if runs:
        found += [*behaviour_sections.reward_sections(runs), behaviour_sections.kl_matrix_section(runs)]
    if any(v.prediction.quantity is Quantity.KL_DRIFT for v in single):
        found.append(behaviour_sections.kl_section(single))
    found += report.evaluated
    if report.notes:
        table = Table(header=("what",), rows=tuple((note,) for note in report.notes))
        found.append(Section(title="Left out", sentence="What could not be measured or judged, and why.", table=table))
    return found


def _distance_sentence(verdicts: Sequence[Verdict]) -> str:
    kinds = [v for v in verdicts if v.prediction.quantity is Quantity.DISPLACEMENT_NORM]
    if not kinds:
        return "Distance from the base over steps, with the predicted interval where theory gives one."
    refuted = sum(v.kind == "refuted" for v in kinds)
    return f"Distance from the base over steps: {refuted} of {len(kinds)} judged ES norms are refuted."
