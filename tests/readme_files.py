"""The files that the README's reader has: rewards, a log, two checkpoints, and an update with a mistake."""

import json
import shutil
from pathlib import Path

import numpy as np

from tests.theory.economy.zero_one import CASES

MISTAKE = """import numpy as np


def update(rewards, noise):
    z = (rewards - rewards.mean()) / (rewards.std() + 1e-8)
    return 0.01 * z @ noise
"""


def write_files(folder: Path) -> None:
    """Write rewards.json, log.jsonl, mycode.py, BASE and ES."""
    rewards, centre = CASES["linear"].rewards(np.random.default_rng(1), 30, 200, mirrored=True)
    document = {"rewards": rewards.tolist(), "centre": centre.tolist(), "mirrored": True}
    (folder / "rewards.json").write_text(json.dumps(document))
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in _log(np.random.default_rng(7))))
    (folder / "mycode.py").write_text(MISTAKE)
    _checkpoints(folder, np.random.default_rng(0))


def _log(rng):
    """Yield 60 updates of a run whose reward rises and whose signal fades."""
    yield {"sigma": 0.001, "alpha": 0.0005, "population": 30, "mirrored": True}
    for step in range(1, 61):
        level = 0.35 + 0.4 * step / (step + 20)
        effects = np.repeat(rng.normal(0, 0.05 * np.exp(-step / 40), 15), 2) * np.tile([1, -1], 15)
        chances = np.clip(level + effects[:, None] + rng.normal(0, 0.15, (1, 100)), 0, 1)
        yield {
            "step": step,
            "prompt_rewards": (rng.random((30, 100)) < chances).astype(int).tolist(),
            "centre_rewards": (rng.random(100) < level + 0.005).astype(int).tolist(),
        }


def _checkpoints(folder, rng):
    """Write a base, and a checkpoint as far from it as 100 steps of the README's run go."""
    from safetensors.numpy import load_file, save_file

    from estheory.models.builtin import get_builtin

    for name, alpha in (("BASE", 0.0), ("ES", 0.00075)):
        shutil.copytree(get_builtin("tiny-lm"), folder / name)
        weights = load_file(folder / name / "model.safetensors")
        moved = {
            key: (value + alpha * np.sqrt(100 / 30) * rng.standard_normal(value.shape)).astype(np.float32)
            for key, value in weights.items()
        }
        save_file(moved, folder / name / "model.safetensors", metadata={"format": "pt"})
