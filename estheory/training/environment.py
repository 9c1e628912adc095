"""environment.json of a run: versions, device, model and data, so that what resumes is what began."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from estheory.errors import DataError
from estheory.runs.directory import RunDirectory
from estheory.tasks import data_of
from estheory.tasks.data_files import data_hashes
from estheory.training.session import Session
from estheory.training.streams import PERMUTATION, PROBE_PROMPTS, PROMPTS, SAMPLING, TRAIN_SET


def record_environment(session: Session, directory: RunDirectory) -> None:
    """Write environment.json, or check that the model and the data are those it names."""
    config = session.config
    names = (config.task, *config.evaluation_tasks)
    data = {name: data_hashes(place, name) for name in names if (place := data_of(name, config.data, config.task))}
    model = {"name": session.loaded.name, "sha256": session.loaded.sha256, "dim": session.parameters.dim}
    known = directory.read_json("environment.json")
    if known is None:
        content: dict[str, object] = {
            "model": model,
            "data": data,
            "dtype": str(session.parameters.vector.dtype).removeprefix("torch."),
            "device": str(session.parameters.vector.device),
            "threads": session.config.threads,
            "python": platform.python_version(),
            "platform": platform.platform(),
            "instructions": torch.backends.cpu.get_cpu_capability(),
            "packages": {name: _version(name) for name in ("torch", "transformers", "trl", "numpy", "safetensors")},
            "seeds": {
                "root": session.config.seed,
                "noise": "Philox4x64: key from the root, counter from (step, member, tensor, block); its words are the "
                "state of the configuration's generator",
                "prompts": f"SeedSequence(root, spawn_key=({PROMPTS}, step))",
                "probe prompts": f"SeedSequence(root, spawn_key=({PROBE_PROMPTS}, batch))",
                "permutation": f"SeedSequence(root, spawn_key=({PERMUTATION}, step))",
                "sampling": f"SeedSequence(root, spawn_key=({SAMPLING}, step, evaluation))",
                "training set": f"SeedSequence(root, spawn_key=({TRAIN_SET},))",
            },
        }
        directory.write_json("environment.json", content)
    elif (began := _sha256_of(known)) != model["sha256"]:
        raise DataError(
            f"{directory.path} began from a model with SHA-256 {began}, "
            f"{session.config.model} now has {model['sha256']}",
            "restore the model's files",
        )
    elif changed := _difference(known.get("data", data), data):
        raise DataError(f"{directory.path} began with other data: {changed}", "restore the files, or run anew")


def _difference(known: Mapping[str, Mapping[str, str]], now: Mapping[str, Mapping[str, str]]) -> str:
    """Return in words the first file whose SHA-256 is not what it was, "" if there is none."""
    for task in sorted(known.keys() | now.keys()):
        before, after = known.get(task, {}), now.get(task, {})
        for name in sorted(before.keys() | after.keys()):
            if before.get(name) != after.get(name):
                hashes = (before.get(name) or "none")[:16], (after.get(name) or "none")[:16]
                return f"the SHA-256 of {name} (task {task}) was {hashes[0]}, is {hashes[1]}"
    return ""


def _sha256_of(environment: Mapping[str, Any]) -> object:
    """Return the model's hash in environment.json; None if it names none."""
    model = environment.get("model")
    return model.get("sha256") if isinstance(model, Mapping) else None


def _version(package: str) -> str | None:
    """Version of an installed package, None if it is not there."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
