"""Two seeds of ES and of GRPO on tiny-lm, and two steps of ES on all of SmolLM2-135M: cosines, norms, KL, verdicts.

    python experiments/first-line/make.py WORK_FOLDER

writes experiments/first-line/record.json. The runs go into WORK_FOLDER (about 2 GB with SmolLM2's checkpoint); about
eight minutes on two cores, and SmolLM2 must have been fetched before (estheory models get smollm2-135m).
"""

from __future__ import annotations

import json
import math
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np

from estheory.demo import demo_configs
from estheory.measurement.displacement import measure_displacements
from estheory.models.builtin import get_builtin
from estheory.reporting.text.verdicts import summary
from estheory.runs.config import ESRunConfig, GRPORunConfig
from estheory.training.es import run_es
from estheory.training.grpo import run_grpo
from estheory.training.run_probes import probes_before
from estheory.validation.judge import judge
from estheory.validation.own_runs import recorded_pairs

SEEDS = (0, 10)
TEXTS = ("addition", "sorting", "reversal")


def tiny_seeds(work: Path) -> dict[str, object]:
    """Run two seeds of ES and of GRPO and return norms and pairwise cosines of their displacements."""
    ends = {}
    for seed in SEEDS:
        configs = demo_configs(seed)
        es, grpo = configs["es"], configs["grpo"]
        assert isinstance(es, ESRunConfig)
        assert isinstance(grpo, GRPORunConfig)
        run_es(es, work / f"es-{seed}", before_first_step=probes_before)
        run_grpo(grpo, work / f"grpo-{seed}")
        for name in (f"es-{seed}", f"grpo-{seed}"):
            ends[name] = work / name / "checkpoints" / "step_000100.safetensors"
    measured = measure_displacements(get_builtin("tiny-lm"), ends)
    return {
        "labels": measured.labels,
        "norms": [float(x) for x in measured.norms],
        "cosines": np.round(measured.cosines, 6).tolist(),
        "unrelated_cosine_std": 1 / math.sqrt(sum(measured.tensors.values())),
    }


def smollm2(work: Path) -> dict[str, object]:
    """Run two steps of full-parameter ES on SmolLM2-135M, N = 4, and return what was predicted and measured."""
    config = ESRunConfig(
        model="smollm2-135m",
        task=TEXTS[0],
        evaluation_tasks=TEXTS[1:],
        steps=2,
        population=4,
        sigma=1e-3,
        alpha=5e-4,
        prompts=8,
        reward="logprob",
        evaluation_prompts=8,
        threads=2,
    )
    run_es(config, work / "smollm2", before_first_step=probes_before)
    verdicts = judge(recorded_pairs(work / "smollm2").pairs)
    tensors = [v for v in verdicts if v.measurement.where.startswith("tensor:")]
    return {
        "summary": summary(verdicts),
        "tensors": len(tensors),
        "tensors_outside_99_percent": sum(v.pvalue < 0.01 for v in tensors),
        "verdicts": [
            {
                "quantity": v.prediction.quantity,
                "where": v.measurement.where,
                "predicted": v.prediction.law.mean,
                "std": v.prediction.law.std,
                "measured": v.measurement.value,
                "ratio": v.ratio,
                "pvalue": v.pvalue,
                "verdict": v.kind,
            }
            for v in verdicts
            if not v.measurement.where.startswith("tensor:")
        ],
    }


def main() -> None:
    work = Path(sys.argv[1])
    work.mkdir(parents=True, exist_ok=True)
    record = {
        "versions": {name: version(name) for name in ("torch", "transformers", "trl", "numpy")},
        "tiny_lm_seeds": tiny_seeds(work),
        "smollm2": smollm2(work),
    }
    target = Path(__file__).with_name("record.json")
    target.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
