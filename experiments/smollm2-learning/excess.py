"""Where the norm of one run comes from that is refuted: its noise vectors, their coefficients, or chance.

    python experiments/smollm2-learning/excess.py FOLDER/sums-mirrored-0

draws the run's 192 noise vectors again, block by block (four minutes of one core), and writes excess.json beside this
file: the products of all pairs of vectors, and the norm that they make with the run's coefficients and with the same
coefficients permuted within each step. All figures are in standard deviations of independent normal noise.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import torch

from estheory.files import write_json
from estheory.models.noise_streams import chunks_of, draw
from estheory.runs.read import read_own
from estheory.runs.view import OwnRun
from estheory.training.session import start_session
from estheory.training.trajectory import run_noise

HERE = Path(__file__).parent
PERMUTATIONS = 4000


def products(run: OwnRun, each: int) -> np.ndarray:
    """Return the products of all noise vectors of a run, `each` a step: shape (steps x each, steps x each)."""
    session = start_session(run.es, evaluates=False)
    noise = run_noise(run.es, session.parameters)
    keys = [(step, member) for step in range(1, run.es.steps + 1) for member in range(each)]
    found = np.zeros((len(keys), len(keys)))
    for chunk in chunks_of(session.parameters.offsets, session.parameters.shapes, noise.structure):
        block = torch.empty(len(keys), chunk.stop - chunk.start)
        for row, (step, member) in zip(block, keys, strict=True):
            draw(row, noise.seed, step, member, chunk, noise.structure)
        found += (block @ block.T).double().numpy()
    return found


def main() -> None:
    """Write what the norm is made of."""
    torch.set_num_threads(1)
    run = read_own(Path(sys.argv[1]))
    made = np.array([step.weights(run.settings) for step in run.steps])
    steps, each = made.shape
    found, dim = products(run, each), run.dim
    weights, one = made.ravel(), math.sqrt(2 * dim)

    def excess(coefficients: np.ndarray, kept: np.ndarray | float = 1.0) -> float:
        square = np.outer(coefficients, coefficients) * (found - dim * np.eye(len(found))) * kept
        return float(square.sum() / (coefficients @ coefficients) / one)

    rng = np.random.default_rng(0)
    permuted = [
        excess((rng.permuted(made, axis=1) * rng.choice((-1.0, 1.0), made.shape)).ravel()) for _ in range(PERMUTATIONS)
    ]
    pairs = found[np.triu_indices(len(found), 1)] / math.sqrt(dim)
    within = np.kron(np.eye(steps), np.ones((each, each)))
    record = {
        "dim": dim,
        "vectors": len(found),
        "pairs": {"mean": float(pairs.mean()), "std": float(pairs.std()), "largest": float(abs(pairs).max())},
        "excess": excess(weights),
        "of_lengths": excess(weights, np.eye(len(found))),
        "within_steps": excess(weights, within - np.eye(len(found))),
        "between_steps": excess(weights, 1 - within),
        "permuted": {"mean": float(np.mean(permuted)), "std": float(np.std(permuted)), "count": PERMUTATIONS},
    }
    write_json(HERE / "excess.json", record)


if __name__ == "__main__":
    main()
