"""Tests that the theory could fail, each beside a control that must come out otherwise: real runs of tiny-lm.

    python experiments/refutable/make.py WORK_FOLDER

writes record.json and the table of README.md beside this file; finished runs in WORK_FOLDER are taken as they are.
"""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from estheory import ESConfig, Quantity, predict
from estheory.demo import demo_configs
from estheory.files import write_json
from estheory.laws import NormalLaw
from estheory.measurement.directions import random_direction
from estheory.measurement.displacement import measure_displacements
from estheory.measurement.held_out import evaluate
from estheory.measurement.reward_curvature import reward_curvature
from estheory.models.builtin import get_builtin
from estheory.runs.config import ESRunConfig
from estheory.runs.directory import RunDirectory
from estheory.training.finish import finish_run
from estheory.training.session import start_session

HERE = Path(__file__).parent
BEGIN, END = "<!-- tables -->\n", "<!-- end of tables -->\n"
SEEDS = (0, 10, 20)
DIRECTIONS = 12
LOGPROB = ESRunConfig(
    model="tiny-lm",
    task="addition",
    steps=40,
    sigma=0.015,
    alpha=0.0075,
    population=30,
    prompts=64,
    reward="logprob",
    checkpoint_every=5,
    evaluation_prompts=8,
)
LOGPROB_SEEDS = range(200, 206)
COSINE_STEPS = (5, 10, 20, 40)
LINE_PROMPTS = 400
"""From which experiments/lines has the error of each rise."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A mean of independent runs and its standard error."""

    mean: float
    stderr: float
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Sample:
        """Return the mean of some values, its error from their scatter."""
        return cls(mean=statistics.fmean(values), stderr=statistics.stdev(values) / len(values) ** 0.5, n=len(values))


@dataclass(frozen=True, kw_only=True)
class Test:
    """One prediction, what runs that learn gave, and what the control gave; what must come out of each."""

    letter: str
    statement: str
    predicted: float
    predicted_stderr: float
    runs: Sample
    control_is: str
    control: Sample
    control_agrees: bool
    agrees: bool = True


def train(work: Path) -> None:
    """Make every run that is not finished."""
    for seed in SEEDS:
        for name, config in demo_configs(seed).items():
            folder = work / f"{name}-{seed}"
            finish_run(config, folder, probed=True)
    for seed in LOGPROB_SEEDS:
        for name, permuted in (("logprob", False), ("permuted", True)):
            folder = work / f"{name}-{seed}"
            finish_run(replace(LOGPROB, seed=seed + 100 * permuted, permute_rewards=permuted), folder, probed=True)


def evaluations(folder: Path, quantity: str, task: str) -> list[float]:
    """Return what a run's evaluations found, in the order of their steps."""
    rows = RunDirectory.open(folder).rows("evaluations")
    return [row["value"] for row in rows if row["quantity"] == quantity and row["task"] == task]


def random_moves(norm: float) -> dict[str, list[float]]:
    """Return accuracy changes and KL at random points as far from the base as a run ends."""
    session = start_session(demo_configs(0)["es"])
    found: dict[str, list[float]] = {}
    for held in session.held:
        for number in range(DIRECTIONS + 1):
            session.parameters.vector.copy_(session.base)
            if number:
                session.parameters.vector.add_(random_direction(session.base, number), alpha=norm)
            for row in evaluate(session.loaded, session.parameters, session.base, held, 64):
                found.setdefault(f"{row['quantity']} {held.task.name}", []).append(float(str(row["value"])))
    return found


def predicted_progress(folder: Path) -> float:
    """Return the progress per step that the probe of the reward predicts."""
    content: Any = RunDirectory.open(folder).read_json("probes.json")
    return float(next(row["mean"] for row in content["predictions"] if row["quantity"] == "progress_per_step"))


def predicted_kl(folder: Path, task: str) -> float:
    """Return the KL that the probe at the scale of the walk predicts."""
    content: Any = RunDirectory.open(folder).read_json("probes.json")
    rows = [row for row in content["fisher"] if row["task"] == task and row["scale"] == "walk"]
    return float(rows[0]["predicted_kl_drift"])


def norm_tests(work: Path) -> list[Test]:
    """Return test (a), the norm: permuted runs walk as far; the law of another population must fail."""
    config = ESConfig(dim=59_184, sigma=0.015, alpha=0.0075, population=30, steps=100)
    law = predict(config).get(Quantity.DISPLACEMENT_NORM).law
    wrong = predict(replace(config, population=31)).get(Quantity.DISPLACEMENT_NORM).law
    norms = {n: [RunDirectory.open(work / f"{n}-{s}").steps()[-1]["norm"] for s in SEEDS] for n in ("es", "control")}
    error = law.std / math.sqrt(len(SEEDS))
    runs, control = (Sample(mean=statistics.fmean(v), stderr=0.0, n=len(v)) for v in norms.values())
    said = "norm after 100 steps"
    return [
        Test(
            letter="a", statement=said, predicted=law.mean, predicted_stderr=error, runs=runs,
            control_is="rewards permuted: as far", control=control, control_agrees=True,
        ),
        Test(
            letter="a", statement=f"{said}, were N 31", predicted=wrong.mean, predicted_stderr=error, runs=runs,
            control_is="rewards permuted", control=control, control_agrees=False, agrees=False,
        ),
    ]  # fmt: skip


def random_tests(work: Path) -> list[Test]:
    """Return tests (a) and (c): what a random move of the same length does, and what the probe says of KL."""
    norm = statistics.fmean(RunDirectory.open(work / f"es-{s}").steps()[-1]["norm"] for s in SEEDS)
    random = random_moves(norm)
    tests = []
    for task in ("addition", "sorting"):
        before, *after = random[f"accuracy {task}"]
        null = Sample.of([value - before for value in after])
        runs, control = (
            Sample.of([e[-1] - e[0] for s in SEEDS if (e := evaluations(work / f"{n}-{s}", "accuracy", task))])
            for n in ("es", "control")
        )
        tests.append(
            Test(
                letter="a",
                statement=f"accuracy on {task} changes as at {DIRECTIONS} random points of the same norm",
                predicted=null.mean,
                predicted_stderr=null.stderr,
                runs=runs,
                agrees=task != "addition",
                control_is="rewards permuted",
                control=control,
                control_agrees=True,
            )
        )
    for task in ("addition", "sorting"):
        drift = Sample.of([predicted_kl(work / f"es-{seed}", task) for seed in SEEDS])
        ends = {n: Sample.of([evaluations(work / f"{n}-{s}", "kl_drift", task)[-1] for s in SEEDS]) for n in
                ("es", "control")}  # fmt: skip
        points = Sample.of(random[f"kl_drift {task}"][1:])
        said = f"KL on {task} (nat a token) is what the probe before the run says"
        tests += [
            Test(
                letter="c", statement=said, predicted=drift.mean, predicted_stderr=drift.stderr, runs=ends["es"],
                control_is=control_is, control=control, control_agrees=True,
            )
            for control_is, control in (("rewards permuted", ends["control"]), ("random points", points))
        ]  # fmt: skip
    return tests


def cosine_tests(work: Path) -> list[Test]:
    """Return test (b): the cosine with the gradient of the smoothed reward, predicted by the probe.

    With a constant gradient progress grows as T and the walk as its root: cos_T = T p / sqrt(w T + (T p)^2).
    """
    files = {
        f"{name}-{seed}-{step}": work / f"{name}-{seed}" / f"checkpoints/step_{step:06d}.safetensors"
        for name in ("logprob", "permuted")
        for seed in LOGPROB_SEEDS
        for step in COSINE_STEPS
    }
    exact = reward_curvature(
        LOGPROB.model, LOGPROB.task, displacements=files, prompts=1024, groups=32, sigma=LOGPROB.sigma, members=16,
        directions=0,
    )  # fmt: skip
    progress = Sample.of([predicted_progress(work / f"logprob-{s}") for s in LOGPROB_SEEDS])
    assert LOGPROB.alpha is not None
    walk = LOGPROB.alpha**2 * 59_184 / LOGPROB.population
    tests = []
    for step in COSINE_STEPS:

        def cosine(p: float, step: int = step) -> float:
            return step * p / math.sqrt(walk * step + (step * p) ** 2)

        measured = {
            name: Sample.of([exact.cosines[f"{name}-{seed}-{step}"].value for seed in LOGPROB_SEEDS])
            for name in ("logprob", "permuted")
        }
        tests.append(
            Test(
                letter="b",
                statement=f"cosine with the gradient at the start, after {step} steps",
                predicted=cosine(progress.mean),
                predicted_stderr=cosine(progress.mean + progress.stderr) - cosine(progress.mean),
                runs=measured["logprob"],
                control_is="rewards permuted",
                control=measured["permuted"],
                control_agrees=False,
            )
        )
    return tests


def pair_tests(work: Path) -> list[Test]:
    """Return tests (e) and (f): cosines between runs."""
    names = [f"{method}-{seed}" for method in ("es", "grpo", "control") for seed in SEEDS]
    ends = {name: RunDirectory.open(work / name).checkpoints()[100] for name in names}
    cosines = measure_displacements(get_builtin("tiny-lm"), ends).cosines
    at = {name: k for k, name in enumerate(names)}

    def across(a: str, b: str) -> list[float]:
        """Return one value a seed of `a`: its mean cosine with the runs of `b`, which GRPO's seeds largely share."""
        return [statistics.fmean(cosines[at[f"{a}-{s}"], at[f"{b}-{t}"]] for t in SEEDS) for s in SEEDS]

    def within(a: str) -> list[float]:
        return [float(cosines[at[f"{a}-{s}"], at[f"{a}-{t}"]]) for i, s in enumerate(SEEDS) for t in SEEDS[:i]]

    noise = 1 / math.sqrt(59_184 * len(SEEDS))
    return [
        Test(
            letter="e", statement="cosine of ES and GRPO is that of unrelated directions", predicted=0.0,
            predicted_stderr=noise, runs=_fixed(across("es", "grpo")), agrees=False,
            control_is="rewards permuted, with GRPO", control=_fixed(across("control", "grpo")), control_agrees=True,
        ),
        Test(
            letter="f", statement="cosine of two ES seeds is that of unrelated directions", predicted=0.0,
            predicted_stderr=noise, runs=_fixed(within("es")), control_is="two GRPO seeds",
            control=_fixed(within("grpo")), control_agrees=False,
        ),
    ]  # fmt: skip


def line_tests() -> list[Test]:
    """Return test (g) from experiments/lines: the rise over the chord, from the slopes at both ends."""
    import json

    studied = json.loads((HERE.parent / "lines" / "record.json").read_text(encoding="utf-8"))
    rows = {
        start: [v for s in studied if s["start"] == start for v in s["verdicts"]
                if v["quantity"] == "interpolation_gain" and "logprob, slopes" in v["where"]]
        for start in ("es", "control")
    }  # fmt: skip
    ratios = {start: [row["measured"] / row["predicted"]["mean"] for row in found] for start, found in rows.items()}
    errors = {
        start: math.hypot(*(row["stderr"] / row["predicted"]["mean"] for row in found)) / len(found)
        for start, found in rows.items()
    }
    runs, control = (
        Sample(mean=statistics.fmean(ratios[k]), stderr=errors[k], n=LINE_PROMPTS * len(ratios[k]))
        for k in ("es", "control")
    )
    return [
        Test(
            letter="g", statement="rise of the log-probability between ES and GRPO over that predicted from slopes",
            predicted=1.0, predicted_stderr=0.0, runs=runs, control_is="from a permuted run to GRPO", control=control,
            control_agrees=True,
        )
    ]  # fmt: skip


def _fixed(values: Sequence[float]) -> Sample:
    """Return the mean of values whose scatter the prediction tells."""
    return Sample(mean=statistics.fmean(values), stderr=0.0, n=len(values))


def pvalue(test: Test, sample: Sample) -> float:
    """Return the two-sided p of a sample under the prediction; with few runs their scatter is itself uncertain."""
    error = math.hypot(test.predicted_stderr, sample.stderr)
    if sample.stderr > test.predicted_stderr:
        from scipy.stats import t

        return float(2 * t.sf(abs(sample.mean - test.predicted) / error, sample.n - 1))
    return 2 * min(NormalLaw(test.predicted, error).tails(sample.mean))


def holm(pvalues: Sequence[float], level: float = 0.05) -> list[bool]:
    """Return which of a family of p-values are refuted."""
    refuted = [False] * len(pvalues)
    for rank, number in enumerate(np.argsort(pvalues)):
        if pvalues[number] > level / (len(pvalues) - rank):
            break
        refuted[number] = True
    return refuted


def table(record: dict[str, Any]) -> str:
    """Return the table of README.md."""
    lines = [
        "",
        "| | statement | predicted | runs | p | verdict | control | measured | p | verdict |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]

    def outcome(refuted: bool, agrees: bool) -> str:
        return ("refuted" if refuted else "holds") + (", as it must be" if refuted and not agrees else "")

    def told(sample: dict[str, float]) -> str:
        return f"{sample['mean']:.4f}" + (f" ± {sample['stderr']:.4f}" if sample["stderr"] else "")

    for row in record["tests"]:
        lines.append(
            f"| {row['letter']} | {row['statement']} | {row['predicted']:.4f} ± {row['predicted_stderr']:.4f} "
            f"| {told(row['runs'])} ({row['runs']['n']}) | {row['pvalue']:.2g} "
            f"| {outcome(row['refuted'], row['agrees'])} "
            f"| {row['control_is']} | {told(row['control'])} ({row['control']['n']}) | {row['control_pvalue']:.2g} "
            f"| {outcome(row['control_refuted'], row['control_agrees'])} |"
        )
    return "\n".join(lines) + "\n\n"


def main() -> None:
    work = Path(sys.argv[1])
    work.mkdir(parents=True, exist_ok=True)
    started = perf_counter()
    train(work)
    tests = norm_tests(work) + random_tests(work) + cosine_tests(work) + pair_tests(work) + line_tests()
    pvalues = [pvalue(test, sample) for test in tests for sample in (test.runs, test.control)]
    rows = []
    for number, (test, refuted, control_refuted) in enumerate(
        zip(tests, holm(pvalues)[::2], holm(pvalues)[1::2], strict=True)
    ):
        rows.append(asdict(test) | {"pvalue": pvalues[2 * number], "control_pvalue": pvalues[2 * number + 1]})
        rows[-1] |= {"refuted": refuted, "control_refuted": control_refuted}
    record = {"seconds": round(perf_counter() - started), "tests": rows}
    write_json(HERE / "record.json", record)
    readme = HERE / "README.md"
    head, rest = readme.read_text(encoding="utf-8").split(BEGIN)
    readme.write_text(head + BEGIN + table(record) + END + rest.split(END)[1], encoding="utf-8")
    print(table(record))


if __name__ == "__main__":
    main()
