"""The whole line on the embedded model: ES, GRPO and an ES control on one task, measured, judged and shown.

Runs that an earlier demo finished in the same folder are taken as they are.
"""

from __future__ import annotations

import math
import multiprocessing
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.pool import Pool
from pathlib import Path
from time import perf_counter

from estheory.cosine_laws import CosineLaw
from estheory.errors import OutputError
from estheory.files import make_folder
from estheory.laws import PointLaw
from estheory.measurement.accuracy import task_evaluator
from estheory.measurement.displacement import Displacements, measure_displacements
from estheory.measurement.held_out import EVALUATION_SEED
from estheory.measurement.interpolation import Interpolation, interpolate_checkpoints
from estheory.models.builtin import get_builtin
from estheory.quantities import Prediction, Quantity
from estheory.runs.config import ESRunConfig, GRPORunConfig
from estheory.runs.read import read_own
from estheory.runs.view import OwnRun
from estheory.theory.estimators.zscores import mean_population_std
from estheory.theory.walk import OURS
from estheory.training.es import run_es
from estheory.training.grpo import run_grpo
from estheory.training.process import end_with_parent
from estheory.training.run_probes import probes_before
from estheory.validation.judge import Pair, paired
from estheory.validation.own_pairs import run_pairs
from estheory.validation.own_runs import run_evidence

MODEL, TASK, OFF_TASK = "tiny-lm", "addition", "sorting"
STEPS, POPULATION, SIGMA = 100, 30, 0.015
LR = 1e-4


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """What the demo found.

    Attributes
    ----------
    runs
        The records by name: ``es``, ``grpo``, ``control`` (and ``smollm2``, one step, when that model is here).
    displacements
        The three tiny runs' end points against their common base, in the order es, grpo, control.
    interpolation
        Task accuracy on the line from the ES to the GRPO solution.
    pairs
        Predictions and measurements, to be judged together.
    seconds
        Wall time.
    """

    runs: Mapping[str, OwnRun]
    displacements: Displacements
    interpolation: Interpolation
    pairs: list[Pair]
    seconds: float


def demo_configs(seed: int) -> dict[str, ESRunConfig | GRPORunConfig]:
    """Return the three runs.

    The control draws other noise and hands each coefficient to a random other member.

    `seed`: of ES and GRPO; the control's is one more.
    """
    es = ESRunConfig(
        model=MODEL,
        task=TASK,
        steps=STEPS,
        sigma=SIGMA,
        alpha=SIGMA / 2,
        population=POPULATION,
        seed=seed,
        checkpoint_every=25,
        evaluation_tasks=(OFF_TASK,),
    )
    grpo = GRPORunConfig(model=MODEL, task=TASK, steps=STEPS, seed=seed, lr=LR, evaluation_tasks=(OFF_TASK,))
    return {"es": es, "control": replace(es, seed=seed + 1, permute_rewards=True), "grpo": grpo}


def claim_folder(out: Path) -> None:
    """Make the demo's folder, or check that it is one."""
    known = {*demo_configs(0), "smollm2", "report.html"}
    if out.exists() and (not out.is_dir() or any(entry.name not in known for entry in out.iterdir())):
        raise OutputError(f"{out} holds something else than a demo", "choose another --out")
    make_folder(out)


def run_demo(
    out: Path, seed: int, say: Callable[[str], None], smollm2: bool, done: Callable[[int], None] = lambda steps: None
) -> DemoResult:
    """Make, measure and pair the demo's runs.

    `out`: folder of the demo, claimed; the runs go into its subfolders.
    `smollm2`: whether to add one step of ES on SmolLM2-135M.
    `done`: called now and then with the number of steps that the runs made since.
    """
    started = perf_counter()
    configs = demo_configs(seed)
    to_make = {name: c for name, c in configs.items() if not _finished(out / name, c)}
    done(sum(_steps_made(out / name) for name in configs.keys() - to_make.keys()))
    _train(out, to_make, say, done)
    if smollm2:
        config = ESRunConfig(
            model="smollm2-135m",
            task=TASK,
            steps=1,
            prompts=4,
            sigma=1e-3,
            alpha=5e-4,
            population=2,
            seed=seed,
            evaluation_prompts=8,
            reward="logprob",
            threads=2,
        )
        if not _finished(out / "smollm2", config):
            _train(out, {"smollm2": config}, say, done)
    names = [*configs, *(("smollm2",) if smollm2 else ())]
    runs = {name: read_own(out / name) for name in names}
    ends = {name: list(runs[name].checkpoints.values())[-1] for name in ("es", "grpo", "control")}
    displacements = measure_displacements(get_builtin(MODEL), ends)
    say("measured the displacements")
    line = _interpolate(ends["es"], ends["grpo"])
    say("interpolated between the ES and the GRPO solution")
    pairs: list[Pair] = []
    for name, run in runs.items():
        pairs.extend(run_evidence(run).pairs if name in ends else run_pairs(run, {}, {}))
    pairs.extend(_cosines(displacements))
    return DemoResult(
        runs=runs,
        displacements=displacements,
        interpolation=line,
        pairs=pairs,
        seconds=perf_counter() - started,
    )


def _finished(folder: Path, config: ESRunConfig | GRPORunConfig) -> bool:
    """Whether an earlier demo finished this very run there; an unfinished or other one is removed."""
    if not folder.exists():
        return False
    written = folder / "config.toml"
    same = written.is_file() and written.read_text(encoding="utf-8") == config.to_toml()
    if same and (folder / "done").exists():
        return True
    shutil.rmtree(folder)
    return False


def _train_one(job: tuple[str, Path, ESRunConfig | GRPORunConfig]) -> tuple[str, float]:
    """Make one run in a process of its own."""
    name, folder, config = job
    started = perf_counter()
    if isinstance(config, ESRunConfig):
        run_es(config, folder, before_first_step=probes_before)
    else:
        run_grpo(config, folder)
    (folder / "done").touch()
    return name, perf_counter() - started


def _train(
    out: Path,
    configs: Mapping[str, ESRunConfig | GRPORunConfig],
    say: Callable[[str], None],
    done: Callable[[int], None],
) -> None:
    """Make runs, two at a time: two one-thread processes are nearly twice as fast as one."""
    if not configs:
        return
    with _workers(2) as pool:
        jobs = [(name, out / name, config) for name, config in configs.items()]
        finished, made, left = pool.imap_unordered(_train_one, jobs), 0, len(jobs)
        while left:
            try:
                name, seconds = finished.next(timeout=0.5)
            except multiprocessing.TimeoutError:
                name = ""
            before, made = made, sum(_steps_made(out / run) for run in configs)
            done(made - before)
            if name:
                left -= 1
                config = configs[name]
                say(f"{name}: {config.steps} steps of {config.method} on {config.model} in {seconds:.0f} s")


def _steps_made(run: Path) -> int:
    try:
        return (run / "steps.jsonl").read_bytes().count(b"\n")
    except OSError:
        return 0


@contextmanager
def _workers(count: int) -> Iterator[Pool]:
    """Yield processes that leave Ctrl-C to this one, and that end with it."""
    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN) if main else None  # inherited by what is started here
    try:
        pool = multiprocessing.get_context("spawn").Pool(count, initializer=end_with_parent)
    finally:
        if main:
            signal.signal(signal.SIGINT, before)
    with pool:  # its exit ends the workers, whatever they are at
        yield pool


def _interpolate(start: Path, end: Path) -> Interpolation:
    parameters, evaluate = task_evaluator(MODEL, TASK, prompts=400, seed=EVALUATION_SEED)
    return interpolate_checkpoints(parameters, start, end, evaluate)


def _cosines(ends: Displacements) -> list[Pair]:
    """Pair the cosines: the control is a random direction; ES against GRPO is bounded by its signal."""
    dim = sum(ends.tensors.values())
    cosines = {(a, b): float(ends.cosines[i, j]) for i, a in enumerate(ends.labels) for j, b in enumerate(ends.labels)}
    pairs: list[Pair] = []
    for a, b in (("control", "es"), ("control", "grpo")):
        prediction = Prediction(
            quantity=Quantity.INDEPENDENT_COSINE,
            law=CosineLaw(0.0, 1.0, 1.0, dim - 1.0),
            label="exact",
            source=OURS,
            assumptions=("the control's rewards do not steer it",),
            step=STEPS,
        )
        pairs.append(paired(prediction, cosines[a, b], where=f"{a}|{b}"))
    bound = Prediction(
        quantity=Quantity.ES_GRPO_COSINE_BOUND,
        law=PointLaw(mean_population_std(POPULATION) * math.sqrt(POPULATION * STEPS / dim)),
        label="exact",
        source=OURS,
        assumptions=("any reward", "a bound, not an estimate"),
        step=STEPS,
    )
    pairs.append(paired(bound, cosines["es", "grpo"], stderr=1 / math.sqrt(dim), where="es|grpo"))
    return pairs
