"""Records of runs made up in a test, as the view that readers return."""

from pathlib import Path

from estheory.runs.config import ESRunConfig
from estheory.runs.directory import step_of
from estheory.runs.view import Evaluation, OwnRun


def own_run(rows, *, dim, checkpoints=(), probes=None, evaluations=(), **options):
    """Return an ES run of this package with rows of steps.jsonl; what its configuration needs has a value."""
    config = {"model": "m", "task": "t", "steps": len(rows), "sigma": 0.02, "alpha": 0.01, "population": 4}
    return OwnRun(
        path=Path("run"),
        config=ESRunConfig(**config | options),
        dim=dim,
        steps=tuple(map(step_of, rows)),
        checkpoints=dict.fromkeys(checkpoints, Path("unread")),
        probes=probes or {},
        evaluations=tuple(Evaluation(**row) for row in evaluations),
    )
