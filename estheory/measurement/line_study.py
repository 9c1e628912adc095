"""Two solutions and the lines around them: rewards between them and along their directions, with forward-only probes.

The probes say what to expect there: slopes at the two ends of the line between the solutions; lines of its length into
random directions; slope and curvature of the base along each direction, and in random ones. What is predicted from
them, and judged, is in :mod:`estheory.validation.line_pairs`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from estheory._special import Array
from estheory.errors import ConfigError, DataError
from estheory.line_scores import CurvatureSamples, DirectionProbe, LineStudy, LocalProbe
from estheory.measurement.accuracy import task_scorers
from estheory.measurement.directions import probe_directions, random_direction
from estheory.measurement.held_out import held_out, task_for
from estheory.measurement.interpolation import Evaluate, checkpoint_vector, interpolate
from estheory.models.checkpoints import Checkpoint, open_checkpoint, open_comparable
from estheory.models.entry_kinds import LeftOut
from estheory.models.load import load_model
from estheory.models.parameters import FlatParameters
from estheory.models.weight_files import is_adapter
from estheory.runs.directory import is_run
from estheory.runs.read import read_own

SLOPE_SHARE = 0.05
"""Slopes at an end of a line are differences over this share of its length to both sides."""
LOCAL_SHARE = 0.1
"""Slope and curvature along a displacement are those of this share of its norm to both sides of the base."""
RADII = (0.25, 0.5, 0.75, 1.0, 1.25)
"""Distances along a direction, in norms of the longer displacement; the shorter one's norm is added."""
RANDOM = "random"


@dataclass(frozen=True, kw_only=True)
class LineDesign:
    """How densely the lines around two solutions are scored.

    Attributes
    ----------
    points
        Of the line between them, at least 3.
    directions
        Random directions of each probe, at least 4.
    seed
        Of the random directions.
    """

    points: int = 11
    directions: int = 32
    seed: int = 0

    @property
    def evaluations(self) -> int:
        """About how many evaluations the two studies of one pair take."""
        return 2 * (self.points + 23 + 2 * self.directions) + 2 * self.directions + 6


@dataclass(frozen=True, kw_only=True)
class _Scored:
    """A model's parameters, and what scores the model as it is now."""

    parameters: FlatParameters
    evaluate: Evaluate

    def at(self, point: Tensor, direction: Tensor, distance: float) -> Array:
        """Return the scores at ``point + distance direction``; the model is put back."""
        with self.parameters.restored(), torch.no_grad():
            self.parameters.vector.copy_(point).add_(direction, alpha=distance)
            scores = np.asarray(self.evaluate(), dtype=np.float64).reshape(-1)
        if not np.isfinite(scores).all():
            raise DataError(
                "scores near a solution are not finite", "the model has diverged; use an earlier checkpoint"
            )
        return scores

    def along(self, directions: Mapping[str, Tensor], radii: Sequence[float]) -> DirectionProbe:
        """Return the scores at some distances along directions from the present parameters."""
        return probe_directions(self.parameters, directions, radii, self.evaluate)


def study_lines(
    parameters: FlatParameters,
    ends: Mapping[str, Tensor],
    evaluate: Evaluate,
    *,
    score: str,
    design: LineDesign = LineDesign(),
    local: bool = True,
) -> LineStudy:
    """Score a model between two solutions and along their directions, and probe the curvature around them.

    The model is put back bit for bit. Cost in evaluations: the points, 4 at the ends, about 19 along the directions,
    2 for each random direction, and as many again and 6 with ``local``.

    `parameters`: the model's trainable parameters; their present value is the base.
    `ends`: the two solutions by their names, at u = 0 and u = 1.
    `evaluate`: scores of the model as it is now, one for each of P prompts, P at least 2.
    `local`: whether to probe slope and curvature of the base; they need a score that is smooth in the weights.
    """
    directions, seed = design.directions, design.seed
    if directions < 4:
        raise ConfigError(f"{directions} random directions are too few to tell their spread", "use 4 or more")
    labels, (start, end) = tuple(ends), ends.values()
    base = parameters.vector.clone()
    moves = {label: point - base for label, point in ends.items()}
    norms = {label: float(move.double().norm()) for label, move in moves.items()}
    length = float((end - start).double().norm())
    if not min(length, *norms.values()) > 0:
        raise ConfigError(f"there is no line between {labels[0]} and {labels[1]}", "give two different runs that moved")
    line = interpolate(parameters, start, end, evaluate, points=design.points)
    scored = _Scored(parameters=parameters, evaluate=evaluate)
    beside = [scored.at(start, end - start, u) for u in (-SLOPE_SHARE, SLOPE_SHARE, 1 - SLOPE_SHARE, 1 + SLOPE_SHARE)]
    far, near = max(norms.values()), min(norms.values())
    radii = sorted({0.0, near, *(far * share for share in RADII)})
    probe = scored.along({**moves, RANDOM: random_direction(base, seed)}, radii)
    around, locals_ = None, {}
    if local:
        around = _around(scored, LOCAL_SHARE * far, probe.scores[0, 0], directions, seed + 1 + directions)
        locals_ = {label: _local(scored, move, LOCAL_SHARE * norms[label]) for label, move in moves.items()}
    return LineStudy(
        score=score,
        labels=(labels[0], labels[1]),
        norms=norms,
        length=length,
        line=line,
        slope_share=SLOPE_SHARE,
        end_scores=np.stack(beside),
        random_rises=_random_rises(scored, start, length, line.scores[0], directions, seed + 1),
        directions=probe,
        around_base=around,
        local=locals_,
    )


def _random_rises(scored: _Scored, start: Tensor, length: float, here: Array, count: int, seed: int) -> Array:
    rows = []
    for number in range(count):
        u = random_direction(start, seed + number)
        middle, end = (scored.at(start, u, distance) for distance in (length / 2, length))
        rows.append(middle - (here + end) / 2)
    return np.stack(rows)


def _around(scored: _Scored, radius: float, here: Array, count: int, seed: int) -> CurvatureSamples:
    rows, base = [], scored.parameters.vector.clone()
    for number in range(count):
        u = random_direction(base, seed + number)
        above, below = (scored.at(base, u, sign * radius) for sign in (1, -1))
        rows.append((2 * here - above - below) / radius**2)
    return CurvatureSamples(radius=radius, values=np.stack(rows))


def _local(scored: _Scored, move: Tensor, radius: float) -> LocalProbe:
    below, centre, above = scored.along({"": move}, [-radius, 0.0, radius]).scores[0]
    return LocalProbe(
        radius=radius, slopes=(above - below) / (2 * radius), curvatures=(2 * centre - above - below) / radius**2
    )


def studies_of(
    ends: tuple[Path, Path],
    *,
    labels: tuple[str, str] | None = None,
    model: str | None = None,
    task: str | None = None,
    data: str | None = None,
    prompts: int,
    design: LineDesign = LineDesign(),
    done: Callable[[int], None] = lambda evaluations: None,
) -> list[LineStudy]:
    """Study the lines around two run directories or checkpoints, by accuracy and by log-probability.

    `ends`: run directories or checkpoints at u = 0 and u = 1.
    `labels`: what they are called; their folders' names when None.
    `task`: what is scored; a run directory tells it.
    `data`: folder of JSONL or Parquet files, or ``hf:ID``, with the task; a run directory tells it.
    `done`: called after each of some `LineDesign.evaluations` evaluations.
    """
    if prompts < 2:
        raise ConfigError(f"lines need 2 or more prompts, got {prompts}", "400 are common")
    names = labels or _names(ends)
    if names[0] == names[1]:
        raise ConfigError(f"there is no line between {names[0]} and itself", "give two different runs that moved")
    files, told = zip(*(_end(path) for path in ends), strict=True)
    base = model or _agreed("model", told)
    scored = task or _agreed("task", told)
    trainable = _agreed("trainable", told, "all")
    if trainable.startswith("lora"):
        raise ConfigError("adapters have no straight line between them here", "merge them, or train whole tensors")
    loaded = load_model(base)
    parameters = FlatParameters(loaded.model, trainable)
    points = [checkpoint_vector(parameters, _opened(loaded.folder, file)) for file in files]
    form = _agreed("form", told, "auto")
    read_as = task_for(loaded, scored, data or _agreed("data", told, ""), form)  # type: ignore[arg-type]
    held = held_out(loaded, read_as, prompts)
    return [
        study_lines(
            parameters,
            dict(zip(names, points, strict=True)),
            _counted(task_scorers(loaded.model, loaded.tokenizer, held.task, held.examples, score), done),
            score=score,
            design=design,
            local=score == "logprob",  # a greedy answer flips or does not: accuracy has no slope
        )
        for score in ("accuracy", "logprob")
    ]


def left_out_of(ends: tuple[Path, Path]) -> list[tuple[str, LeftOut]]:
    """Return what the files of two solutions hold that is no part of them, each with its solution's path."""
    files = {str(path): _end(path)[0] for path in ends}
    opened = {label: open_checkpoint(file) for label, file in files.items() if not is_adapter(file)}
    return [(label, row) for label, checkpoint in opened.items() for row in checkpoint.left_out]


def _counted(evaluate: Evaluate, done: Callable[[int], None]) -> Evaluate:
    def scored() -> Sequence[float] | Array:
        found = evaluate()
        done(1)
        return found

    return scored


def _opened(base: Path, file: Path) -> Checkpoint:
    """Open a checkpoint, or the base with an adapter merged into it."""
    return open_comparable(base, {str(file): file})[1][0] if is_adapter(file) else open_checkpoint(file)


def _end(path: Path) -> tuple[Path, dict[str, str]]:
    """Return the last checkpoint of a run, or the checkpoint itself, and what the run's configuration tells."""
    if not is_run(path):
        return path, {}
    run = read_own(path)
    if not run.checkpoints:
        raise DataError(f"{path} has no checkpoint", "let the run finish")
    told = {key: str(getattr(run.config, key)) for key in ("model", "task", "trainable", "data", "form")}
    return list(run.checkpoints.values())[-1], told


def _agreed(name: str, told: Sequence[dict[str, str]], default: str | None = None) -> str:
    values = {config[name] for config in told if name in config}
    if len(values) > 1:
        raise ConfigError(f"the two runs differ in {name}: {' and '.join(sorted(values))}", f"give --{name}, or others")
    if not values and default is None:
        raise ConfigError(f"two checkpoints do not tell their {name}", f"give --{name}")
    return values.pop() if values else str(default)


def _names(ends: tuple[Path, Path]) -> tuple[str, str]:
    first, second = (path.resolve() for path in ends)
    return (first.name, second.name) if first.name != second.name else (str(ends[0]), str(ends[1]))
