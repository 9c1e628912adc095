"""Ready-made runs: a landscape, a configuration and the steps to look at."""

from __future__ import annotations

import numpy as np

from estheory.landscape import Landscape
from estheory.rules import ESConfig, require_choice
from estheory.theory.curved.spectra import power_law, two_scale

PRESETS = ("paper", "two-scale", "power-law")

Preset = tuple[ESConfig, Landscape, tuple[int, ...]]


def preset(name: str) -> Preset:
    """Return configuration, landscape and steps of a preset.

    ``paper``: the published runs, Qwen3-4B's dimension, no curved direction, reward noise alone. ``two-scale``: five
    sharp directions away from their optimum and 400 nearly flat ones at theirs, so that the reward rises, peaks and
    decays. ``power-law``: ten thousand directions of eigenvalues 1/k among a thousand million parameters.
    """
    require_choice("preset", name, PRESETS)
    steps: tuple[int, ...]
    if name == "paper":
        dim, steps = 4_022_468_096, (100, 200, 300, 400)
        config = ESConfig(dim=dim, sigma=0.0015, alpha=0.00075, population=30, steps=400)
        nothing = np.zeros(1)
        return (
            config,
            Landscape(dim=dim, eigenvalue=nothing, multiplicity=nothing, offset=nothing, reward_std=0.1),
            steps,
        )
    if name == "two-scale":
        landscape, steps = two_scale(), (20, 100, 200, 400)
        return ESConfig(dim=landscape.dim, sigma=0.01, alpha=0.01, population=30, steps=400), landscape, steps
    steps = (10, 50, 100)
    landscape = power_law(dim=10**9, directions=10**4, largest=1.0, exponent=1.0, offset=0.3, reward_std=0.001)
    return ESConfig(dim=landscape.dim, sigma=0.01, alpha=0.01, population=30, steps=100), landscape, steps
