"""The four data sets of arXiv:2604.01499, cut as its published code cuts them, as files that ``--data DATA`` reads.

    pip install datasets
    python experiments/paper/data.py DATA

200 training problems a task, 2000 test problems (500 of math). Source of the cuts: github.com/Bhoy1/ESvsGRPO,
src/es_vs_grpo/tasks, commit 43eed8c.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

TRAIN, TEST, MATH_TEST = 200, 2000, 500
LEVELS = range(1, 6)
FIELDS = {
    "countdown": ("nums", "target"),
    "math": ("problem", "answer", "solution"),
    "chemistry": ("question", "choices", "answerKey"),
    "boolq": ("passage", "question", "answer"),
}
Row = Mapping[str, Any]


def parts(load: Callable[..., Any]) -> Iterator[tuple[str, str, Iterable[Row]]]:
    """Yield task, part and rows; `load` is ``datasets.load_dataset``."""
    countdown = list(islice(load("Jiayi-Pan/Countdown-Tasks-3to4", split="train"), TRAIN + TEST))
    yield "countdown", "train", countdown[:TRAIN]
    yield "countdown", "test", countdown[TRAIN:]
    math = load("nlile/hendrycks-MATH-benchmark")
    by_level = [[row for row in math["train"] if int(row["level"]) == level] for level in LEVELS]
    yield "math", "train", [row for rows in by_level for row in rows[: TRAIN // len(LEVELS)]]
    yield "math", "test", islice(math["test"], MATH_TEST)
    rows = load("hicai-zju/SciKnowEval", "v2")["test"]
    chemistry = [row for row in rows if row["domain"] == "Chemistry" and row["type"] == "mcq-4-choices"]
    random.Random(42).shuffle(chemistry)
    yield "chemistry", "train", chemistry[:TRAIN]
    yield "chemistry", "test", chemistry[TRAIN : TRAIN + TEST]
    boolq = load("google/boolq")
    yield "boolq", "train", islice(boolq["train"], TRAIN)
    yield "boolq", "test", islice(boolq["validation"], TEST)


def write(folder: Path, load: Callable[..., Any]) -> None:
    """Write TASK-train.jsonl and TASK-test.jsonl of each task."""
    folder.mkdir(parents=True, exist_ok=True)
    for task, part, rows in parts(load):
        lines = (json.dumps({name: row[name] for name in FIELDS[task]}) + "\n" for row in rows)
        (folder / f"{task}-{part}.jsonl").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    from datasets import load_dataset

    write(Path(sys.argv[1]), load_dataset)
