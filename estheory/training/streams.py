"""The random streams of a run, all from one seed, each by its purpose and, as a rule, its step. Imports no torch."""

from __future__ import annotations

import numpy as np

PROMPTS = 0x70726D70
PERMUTATION = 0x7065726D
SAMPLING = 0x73616D70
TRAIN_SET = 0x73657473
PROBE_PROMPTS = 0x70726F62
GRPO_SAMPLING = 0x6772706F


def stream(seed: int, *purpose: int) -> np.random.SeedSequence:
    """Return the random stream of a seed for a purpose.

    `purpose`: one of the constants of this module, then numbers such as the step.
    """
    return np.random.SeedSequence(seed, spawn_key=purpose)


def stream_seed(seed: int, *purpose: int) -> int:
    """Return 64 bits of a stream, for generators that take a number as their seed."""
    return int(stream(seed, *purpose).generate_state(1, np.uint64)[0])
