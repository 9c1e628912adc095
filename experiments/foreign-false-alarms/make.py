"""How often `validate` is wrong about other people's run directories: 200 of each kind, written and read in full.

    python experiments/foreign-false-alarms/make.py [KIND ...]

writes record.json and the table of docs/validation/foreign.md; ten minutes on one core for all kinds.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))  # the fixtures that write such folders are the tests'

from estheory.quantities import Quantity  # noqa: E402
from estheory.runs.view import Given  # noqa: E402
from estheory.validation.foreign_runs import foreign_evidence  # noqa: E402
from estheory.validation.judge import judge  # noqa: E402
from tests.validation import foreign_runs as make  # noqa: E402

RUNS, LEVEL, WRONG = 200, 0.05, 1.05
PAGE = ROOT / "docs/validation/foreign.md"
BEGIN, END = "<!-- table -->\n", "<!-- end of table -->\n"


def stalled(seed: int, steps: int) -> tuple[int, ...]:
    """Return the steps of a run whose rewards were all equal, one in ten."""
    return tuple(1 + np.flatnonzero(np.random.default_rng([seed, 1]).random(steps) < 0.1))


def esvsgrpo(folder: Path, seed: int, **how: Any) -> None:
    make.esvsgrpo_es(folder / "run", seed=seed, stalled=stalled(seed, 15), **how)


def awd(folder: Path, seed: int, *, logged_only: bool = False, **how: Any) -> None:
    make.es_awd(folder / "run", seed=seed, stalled=stalled(seed, 12), **how)
    if not logged_only:
        make.base_model(how.get("dtype", torch.float32)).save_pretrained(folder / "base")


def at_scale(folder: Path, seed: int, version: str) -> None:
    name = f"es-countdown-sigma{make.SIGMA}-alpha{make.ALPHA}-pop{make.POPULATION}-bs200-tkn512-modelx-seed42-x"
    path = folder / (name if version == "package" else "run")
    still = () if version == "package" else stalled(seed, 15)
    make.es_at_scale(path, version=version, seed=seed, stalled=still)
    make.base_model().save_pretrained(folder / "base")


BF16 = {"dtype": torch.bfloat16, "alpha": 3e-4}
KINDS: dict[str, tuple[Callable[..., None], dict[str, Any]]] = {
    "ESvsGRPO, ES": (esvsgrpo, {}),
    "es-awd, L2 anchor": (awd, {}),
    "es-awd, mirrored": (awd, {"mirrored": True, "decay": "none", "strength": 0.0}),
    "es-awd, its log alone": (awd, {"logged_only": True}),
    "es-at-scale, round robin": (at_scale, {"version": "robin"}),
    "es-at-scale, static": (at_scale, {"version": "static"}),
    "es-at-scale, its package": (at_scale, {"version": "package"}),
    "ESvsGRPO, ES, bf16": (esvsgrpo, BF16),
    "es-awd, L2 anchor, bf16": (awd, BF16),
}


def claim(run: Path, factor: float) -> Given:
    """Let a folder claim another step size; return what tells what it does not."""
    for name in ("config.json", "args.json"):
        if (run / name).is_file():
            content = json.loads((run / name).read_text())
            for settings in content.get("tasks", [content]):
                if "weight_decay_lambda" in settings:  # the anchor stays what it was
                    settings["weight_decay_lambda"] /= factor
                settings["alpha"] *= factor
            (run / name).write_text(json.dumps(content))
            return Given()
    return Given(alpha=factor * make.ALPHA, population=make.POPULATION, sigma=make.SIGMA)


def judged(folder: Path, factor: float) -> tuple[bool, bool]:
    """Return whether a folder's run is refuted, and whether its norms are, judged alone."""
    run = next(path for path in folder.iterdir() if path.name != "base")
    base = folder / "base" if (folder / "base").exists() else None
    record = foreign_evidence(run, base, claim(run, factor), keep_going=True)
    norms = [pair for pair in record.pairs if pair[0].quantity is Quantity.DISPLACEMENT_NORM]
    whole, alone = (any(v.kind == "refuted" for v in judge(pairs, LEVEL)) for pairs in (record.pairs, norms))
    return whole, alone


def count(kind: str) -> dict[str, Any]:
    write, how = KINDS[kind]
    found: Counter[str] = Counter()
    for seed in range(RUNS):
        with tempfile.TemporaryDirectory() as name, contextlib.redirect_stderr(io.StringIO()):
            folder = Path(name)
            write(folder, seed, **how)
            for label, factor in (("true", 1.0), ("wrong", WRONG)):
                whole, norms = judged(folder, factor)
                found[label] += whole
                found[f"{label}, norms"] += norms
    print(kind, dict(found), file=sys.stderr)
    return {"kind": kind, "runs": RUNS, **found}


def table(rows: list[dict[str, Any]]) -> str:
    lines = ["| kind of folder | refuted, true theory | refuted, $\\alpha$ 5 % too large |", "|---|---|---|"]
    for r in rows:
        lines.append(f"| {r['kind']} | {r.get('true', 0)} of {r['runs']} | {r.get('wrong', 0)} of {r['runs']} |")
    return "\n".join(lines) + "\n"


def main(kinds: list[str]) -> None:
    torch.set_num_threads(1)
    make.SIZE.update(hidden_size=32, intermediate_size=80, vocab_size=97)
    file = HERE / "record.json"
    known = {row["kind"]: row for row in json.loads(file.read_text())} if file.exists() else {}
    for kind in kinds or KINDS:
        known[kind] = count(kind)
        rows = [known[name] for name in KINDS if name in known]
        file.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        PAGE.write_text(before + BEGIN + table(rows) + END + rest.partition(END)[2], encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
