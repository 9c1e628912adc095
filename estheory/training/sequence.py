"""Tasks trained one after another from one base, by ES and by GRPO: sequential continual learning.

``DIR/es/seed-0/1-countdown`` is an ordinary run directory; stage k starts from the model that stage k - 1 left,
a Hugging Face folder beside it (``1-countdown.model``). Every stage evaluates all tasks before and after itself, with
KL from the base of the whole sequence. What is finished is never run again, so a sequence resumes where it stopped.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from estheory.errors import DataError
from estheory.files import make_folder, write_json
from estheory.measurement.displacement import measure_displacements
from estheory.measurement.held_out import kl_from_base
from estheory.models.load import resolve_model
from estheory.quantities import Quantity
from estheory.runs.directory import Row, RunDirectory
from estheory.runs.sequence import AnyConfig, SequenceConfig, require_same
from estheory.tasks import get_task
from estheory.training.finish import finish_run
from estheory.training.process import torch_threads
from estheory.training.session import OnStep, start_session, with_absolute_model

DONE = "done.json"
Watch = Callable[[Path], AbstractContextManager[OnStep | None]]


def run_sequence(
    config: SequenceConfig,
    out: Path,
    *,
    watch: Watch = lambda run: nullcontext(),
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Run, or go on with, a sequence.

    `out`: its folder: free, or that of the same sequence.
    `watch`: opened around each stage with its run directory; what it gives is called after each step with its row.
    `say`: called with a line when a stage begins.
    Result: the content of ``summary.json``. ``sequences`` has a row for each method and seed: ``accuracy`` (with
    ``accuracy_stderr``) and ``kl``, shape (stages + 1, tasks), before the first stage and after each, KL in nat per
    token from the base of the sequence; and for each stage ``steps``, ``norm`` from the stage's own start and
    ``norm_from_base``. ``cosines`` compares the last models' displacements from the base, where they are kept.
    """
    config = replace(config, configs=tuple(with_absolute_model(c) for c in config.configs))
    for task in config.tasks:
        get_task(task, data=config.configs[0].data)  # an unknown one is said before the first stage
    _claim(config, out)
    rows = []
    for method, seed in ((c, seed) for c in config.configs for seed in config.seeds):
        folder, model, stages = out / method.method / f"seed-{seed}", method.model, []
        for number, task in enumerate(config.tasks, start=1):
            run = folder / f"{number}-{task}"
            stage = replace(config.stage(method, task), seed=seed, model=model)
            if not (run / DONE).exists():
                say(f"{method.method}, seed {seed}, stage {number} of {len(config.tasks)}: {task}")
                with watch(run) as on_step:
                    finish_run(stage, run, probed=True, on_step=on_step)
                _finish(stage, method.model, run)
            stages.append(RunDirectory.open(run).read_json(DONE) or {})
            model = str(_model_of(run).resolve())
            if number > 1 and config.retention != "all":
                _forget(folder / f"{number - 1}-{config.tasks[number - 2]}")
        if config.retention == "none":
            _forget(run)
        try:
            matrices = _matrices(config.tasks, stages)
        except (KeyError, TypeError, AttributeError) as error:
            what = f"a {DONE} in {folder} is damaged ({type(error).__name__}: {error})"
            raise DataError(what, "remove that stage and the later ones, and continue") from error
        rows.append({"method": method.method, "seed": seed, **matrices})
    summary: dict[str, Any] = {"schema": "estheory/sequence/1", "tasks": list(config.tasks), "sequences": rows}
    if config.retention != "none":
        summary["cosines"] = _cosines(config, out)
    write_json(out / "summary.json", summary)
    return summary


def _model_of(run: Path) -> Path:
    """Return the folder of the model that a stage leaves."""
    return run.with_name(run.name + ".model")


def _finish(config: AnyConfig, base: str, run: Path) -> None:
    """Compare a stage's end with the base of the sequence, write its model, and mark it done."""
    directory = RunDirectory.open(run)
    rows = directory.steps()
    last = int(rows[-1]["step"])
    with torch_threads(config.threads):
        session = start_session(replace(config, model=base))
        parameters = session.parameters
        parameters.read_safetensors(directory.checkpoint(last))
        states: dict[str, dict[str, dict[str, float]]] = {"before": {}, "after": {}}
        for row in directory.rows("evaluations"):
            when = {0: "before", last: "after"}.get(row["step"])
            if when is not None and row["quantity"] == Quantity.ACCURACY:
                entry = states[when].setdefault(row["task"], {})
                entry["accuracy"], entry["accuracy_stderr"] = row["value"], row["stderr"]
        for held in session.held:
            kl = kl_from_base(session.loaded, parameters, session.base, held)
            states["after"][held.task.name]["kl"] = kl.value
        session.write_model(_model_of(run))  # a kill just before the stage is marked done may have left one
        norm_from_base = session.displacement_norm(parameters.vector)
    stage = {"steps": last, "norm": rows[-1]["norm"], "norm_from_base": norm_from_base, **states}
    write_json(run / DONE, stage)


def _matrices(tasks: Sequence[str], stages: Sequence[Row]) -> Row:
    """Return accuracy and KL by state and task, and what each stage did."""
    states = [stages[0]["before"], *(stage["after"] for stage in stages)]
    return {
        **{
            name: [[state[task][name] for task in tasks] for state in states]
            for name in ("accuracy", "accuracy_stderr")
        },
        "kl": [[state[task].get("kl", 0.0) for task in tasks] for state in states],
        **{name: [stage[name] for stage in stages] for name in ("steps", "norm", "norm_from_base")},
    }


def _cosines(config: SequenceConfig, out: Path) -> Row:
    """Return the cosines of the last models' displacements from the base, by ``method/seed-S``."""
    last = f"{len(config.tasks)}-{config.tasks[-1]}"
    labels = [f"{c.method}/seed-{seed}" for c in config.configs for seed in config.seeds]
    ends = {label: _model_of(out / label / last) for label in labels}
    compared = measure_displacements(resolve_model(config.configs[0].model), ends)
    return {"of": list(compared.labels), "values": compared.cosines.tolist()}


def _forget(run: Path) -> None:
    """Remove what a finished stage weighs: its model and the run's checkpoints. Its records stay."""
    shutil.rmtree(_model_of(run), ignore_errors=True)
    shutil.rmtree(run / "checkpoints", ignore_errors=True)


def _claim(config: SequenceConfig, out: Path) -> None:
    """Take the folder for this sequence, or check that it is this sequence's."""
    manifest, content = out / "sequence.json", config.manifest()
    if manifest.is_file():
        require_same(manifest, content)
        return
    RunDirectory.require_free(out)
    for first in config.configs:  # what cannot begin takes no folder
        with torch_threads(first.threads):
            start_session(config.stage(first, config.tasks[0]))
    make_folder(out)
    write_json(manifest, content)
