"""A run that is made where there is none, gone on with where it was cut off, and left alone where it is complete."""

from __future__ import annotations

from pathlib import Path

from estheory.runs.config import ESRunConfig
from estheory.runs.sequence import AnyConfig
from estheory.training.session import OnStep, RunResult


def finish_run(config: AnyConfig, directory: Path, *, probed: bool = False, on_step: OnStep | None = None) -> RunResult:
    """Make a run, or what is missing of it, and return how it ended.

    `config`: the run, if none is there; one that is there goes on with its own configuration.
    `probed`: whether it makes probes.json before its first step.
    """
    begun = (directory / "config.toml").is_file()
    if isinstance(config, ESRunConfig):
        from estheory.training.es import resume, run_es
        from estheory.training.run_probes import probes_before

        probes = probes_before if probed else None
        if begun:
            return resume(directory, before_first_step=probes, on_step=on_step)
        return run_es(config, directory, before_first_step=probes, on_step=on_step)
    from estheory.training.gradient_probe import gradient_probe
    from estheory.training.grpo import resume_grpo, run_grpo

    probe = gradient_probe if probed else None
    if begun:
        return resume_grpo(directory, before_first_step=probe, on_step=on_step)
    return run_grpo(config, directory, before_first_step=probe, on_step=on_step)
