"""Repeated seeds are named, and the pairs of mirrored members are none; torch agrees on which noise is equal."""

import numpy as np
import pytest

from estheory.diagnosis.seeds import explain_seeds
from estheory.rules import ESConfig

torch = pytest.importorskip("torch")

PLAIN = ESConfig(dim=10, sigma=0.1, population=6)
PAIRS = ESConfig(dim=10, sigma=0.1, population=6, antithetic=True)


def drawn(seed, steps=40, members=6, high=2**31):
    rng = np.random.default_rng(seed)
    return {t: rng.integers(high, size=members).tolist() for t in range(1, steps + 1)}


def texts(seeds, rule):
    return [fault.text for fault in explain_seeds(seeds, rule)]


def test_seeds_drawn_at_random_raise_none():
    """Two of 240 seeds agree by chance with a probability of 1e-5 a run; 64-bit ones in their low half, 7e-6."""
    for seed in range(200):
        for high in (2**31, 2**62):
            assert texts(drawn(seed, high=high), PLAIN) == []
            per_pair = drawn(seed, members=3, high=high)
            assert texts(per_pair, PAIRS) == []
            assert texts({t: [s for s in of_step for _ in "+-"] for t, of_step in per_pair.items()}, PAIRS) == []


@pytest.mark.parametrize(
    ("seeds", "rule", "words"),
    [
        ({1: [3, 4, 3, 5, 6, 7]}, PLAIN, "2 of 6 members share a seed"),
        ({1: [3, 3, 4, 4, 5, 5]}, PLAIN, "mirrored"),
        ({1: [3, 3, 3, 4, 4, 5]}, PAIRS, "3 of 6 members share a seed"),
        ({1: [3, 4, 5, 6, 7, 8]}, PAIRS, "not mirrored"),
        ({t: [1, 2, 3, 4, 5, 6] for t in (1, 2, 3)}, PLAIN, "12 of 12 members have the seed of a member of an earlier"),
        ({t: [t << 32 | m for m in range(6)] for t in (1, 2)}, PLAIN, "earlier step in its low 32 bits"),
        ({1: [m << 32 for m in range(6)]}, PLAIN, "share a seed in its low 32 bits"),
    ],
)
def test_repeated_seeds_are_named(seeds, rule, words):
    assert any(words in text for text in texts(seeds, rule))


def test_torch_takes_the_low_32_bits_on_a_cpu():
    """The fact behind the last fault."""
    draws = [torch.randn(5, generator=torch.Generator().manual_seed(seed)) for seed in (7, 7 + (3 << 32), 8)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
