"""How much of a run's cost the probe of its reward may take. Imports no torch."""

from __future__ import annotations

from estheory.runs.config import ESRunConfig

SHARE = 0.1
"""Reward evaluations of the probe, at most, over those of the run."""
PAIRS = 4
"""Mirrored pairs that share the prompts of one batch; many small batches tell the error of their mean best."""
FEWEST_BATCHES, MOST_BATCHES = 8, 64

PERMUTATIONS, LARGE_PERMUTATIONS = 8, 4
"""Permuted updates beside the real one, whose KL is compared; of models from ten million parameters on fewer."""


def permutations(dim: int) -> int:
    """Return the number of permuted updates beside the real one."""
    return LARGE_PERMUTATIONS if dim >= 10_000_000 else PERMUTATIONS


def probe_batches(config: ESRunConfig) -> int:
    """Return the number of batches of the reward's probe."""
    affordable = int(SHARE * config.steps * config.evaluations / (2 * PAIRS + 1))
    return min(affordable, MOST_BATCHES)


def why_unprobed(config: ESRunConfig) -> str:
    """Return why the reward of a run is not probed."""
    if config.dtype != "float32":
        return f"no reward probe: {config.dtype} rounds its members"
    if config.train_set:
        return "no reward probe: with a fixed training set, prompts that agree do not tell its signal"
    if config.prompts < 3:
        return "no reward probe: it needs 3 prompts or more"
    if probe_batches(config) < FEWEST_BATCHES:
        needed = FEWEST_BATCHES * (2 * PAIRS + 1)
        return f"no reward probe: {needed} evaluations would be more than {SHARE:.0%} of this run"
    return ""
