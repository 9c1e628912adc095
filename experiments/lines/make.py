"""Lines between and along three ES/GRPO pairs on tiny-lm, and from the permuted-reward control: rises and predictions.

    python experiments/lines/make.py WORK_FOLDER

writes experiments/lines/record.json. Runs with the settings of `estheory demo`, seeds 0, 10 and 20 (the controls draw
the next seed's noise); finished ones in WORK_FOLDER are taken as they are. About five minutes on one core.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from estheory.demo import demo_configs
from estheory.measurement.line_study import LineDesign, studies_of
from estheory.reporting.line_results import lines_json
from estheory.runs.config import ESRunConfig
from estheory.training.es import run_es
from estheory.training.grpo import run_grpo
from estheory.validation.judge import judge
from estheory.validation.line_pairs import line_pairs

SEEDS = (0, 10, 20)
KEPT = ("score", "start", "end", "norms", "length", "prompts", "line", "random_lines", "along")


def make_runs(work: Path, seed: int) -> dict[str, Path]:
    """Make the ES, GRPO and control runs of a seed, unless they are there."""
    ends = {}
    for name, config in demo_configs(seed).items():
        ends[name] = folder = work / f"{name}-{seed}"
        if not (folder / "done").exists():
            shutil.rmtree(folder, ignore_errors=True)
            run_es(config, folder) if isinstance(config, ESRunConfig) else run_grpo(config, folder)
            (folder / "done").touch()
    return ends


def rounded(value: object) -> object:
    """Return numbers with six significant digits."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list) else value


def main() -> None:
    work = Path(sys.argv[1])
    work.mkdir(parents=True, exist_ok=True)
    studied = []
    for seed in SEEDS:
        ends = make_runs(work, seed)
        for start in ("es", "control"):
            design = LineDesign(seed=seed)
            studies = studies_of((ends[start], ends["grpo"]), labels=(start, "grpo"), prompts=400, design=design)
            verdicts = judge([pair for study in studies for pair in line_pairs(study)])
            document = lines_json(studies, verdicts, 0.05)
            lines = [{key: line[key] for key in KEPT} for line in document["lines"]]
            keys = ("where", "quantity", "predicted", "measured", "stderr", "ratio", "pvalue", "verdict")
            judged = [{key: verdict[key] for key in keys} for verdict in document["verdicts"]]
            studied.append({"seed": seed, "start": start, "lines": lines, "verdicts": judged})
            print(seed, start, flush=True)
    target = Path(__file__).with_name("record.json")
    target.write_text(json.dumps(rounded(studied), separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
