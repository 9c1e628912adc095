"""Four tasks one after another on tiny-lm, by ES and by GRPO, three seeds: the sequence's own summary.

    python experiments/tiny-sequence/make.py WORK_FOLDER

writes experiments/tiny-sequence/record.json; the same command goes on with one that was cut off.
"""

from __future__ import annotations

import sys
from pathlib import Path

from estheory.training.config import ESRunConfig, GRPORunConfig
from estheory.training.run_directory import write_json
from estheory.training.sequence import SequenceConfig, run_sequence

TASKS = ("countdown", "addition", "choice", "reversal")
SHARED = {"model": "tiny-lm", "task": TASKS[0]}

es = ESRunConfig(**SHARED, steps=80, sigma=0.015, alpha=0.0075, population=30, prompts=64, workers=2)
grpo = GRPORunConfig(**SHARED, steps=100, lr=1e-4, prompts=16, samples=8)
config = SequenceConfig(tasks=TASKS, configs=(es, grpo), seeds=(0, 1, 2), retention="last")

if __name__ == "__main__":  # workers import this file again
    summary = run_sequence(config, Path(sys.argv[1]), say=lambda text: print(text, flush=True))
    write_json(Path(__file__).parent / "record.json", summary)
