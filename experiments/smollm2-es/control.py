"""The run again from its log with each step's coefficients permuted between members: the same walk without the signal.

    python experiments/smollm2-es/control.py RUN_DIRECTORY

writes control.json: norm and KL of each task for two permutations. About six minutes each on one core.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from estheory.files import write_json
from estheory.measurement.held_out import kl_from_base
from estheory.runs.config import ESRunConfig
from estheory.runs.directory import RunDirectory
from estheory.training.session import start_session
from estheory.training.trajectory import Trajectory


def main() -> None:
    directory = RunDirectory.open(Path(sys.argv[1]))
    config = directory.config
    assert isinstance(config, ESRunConfig)
    session = start_session(config)
    found: list[dict[str, Any]] = []
    for seed in (0, 1):
        rng, walk = np.random.default_rng(seed), Trajectory(session.parameters, session.base, config)
        for row in directory.steps():
            walk.advance({**row, "coefficients": rng.permutation(row["coefficients"]).tolist()})
        session.parameters.vector.copy_(walk.theta)
        kl = {
            held.task.name: kl_from_base(session.loaded, session.parameters, session.base, held).value
            for held in session.held
        }
        found.append({"permutation": seed, "norm": session.displacement_norm(walk.theta), "kl": kl})
        print(found[-1], flush=True)
    write_json(Path(__file__).with_name("control.json"), {"controls": found})


if __name__ == "__main__":
    main()
