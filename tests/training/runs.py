"""Small real runs of the packaged tiny-lm, and what of them must be reproducible."""

from __future__ import annotations

from pathlib import Path

from estheory.runs.config import ESRunConfig

RECORD = ("config.toml", "steps.jsonl", "evaluations.jsonl", "probes.json", "environment.json")


def es_config(**changes: object) -> ESRunConfig:
    """Four steps of six members on eight prompts, unless changed."""
    values: dict[str, object] = {
        "model": "tiny-lm",
        "task": "reversal",
        "sigma": 0.015,
        "alpha": 0.0075,
        "population": 6,
        "prompts": 8,
        "steps": 4,
        "checkpoint_every": 2,
        "evaluation_prompts": 16,
        "seed": 3,
    }
    return ESRunConfig(**{**values, **changes})  # type: ignore[arg-type]


def contents(directory: Path) -> dict[str, bytes]:
    """Everything of a run but its timings."""
    files = [directory / name for name in RECORD if (directory / name).exists()]
    files += sorted(directory.glob("checkpoints/*.safetensors"))
    return {str(file.relative_to(directory)): file.read_bytes() for file in files}
