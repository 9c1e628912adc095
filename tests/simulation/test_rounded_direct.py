"""ES on 16-bit weights in every coordinate: its arithmetic, and its norms against the emulator's prediction."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from estheory.errors import ConfigError
from estheory.floats import FORMATS
from estheory.landscape import Landscape
from estheory.rules import ESConfig
from estheory.simulation.emulator.direct import RoundedES
from estheory.simulation.emulator.emulate import emulate
from estheory.simulation.emulator.steps import Rounder, take_fused_step
from estheory.simulation.emulator.strata import SampledWeights
from estheory.simulation.engine import simulate
from estheory.simulation.observed import observe, observed_pairs
from estheory.theory.rounding.weights import normal_weights
from estheory.validation.judge import judge

STD, LEVEL = 0.02, 1e-6
FLAT = Landscape(dim=1500, eigenvalue=[0.0], multiplicity=[0], offset=[0.0], reward_std=1.0)
CURVED = Landscape(dim=60, eigenvalue=[2.0], multiplicity=[20], offset=[0.1], reward_std=0.01)
RUN = ESConfig(dim=1500, sigma=1.5e-3, population=30, steps=20, dtype="bfloat16")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize(
    "changes", [{}, {"update_path": "sequential"}, {"restore_pairs": 3}, {"antithetic": True, "population": 8}]
)
def test_a_step_is_that_of_the_package_bit_by_bit(dtype, changes):
    config = replace(RUN, dim=60, dtype=dtype, **({"population": 10} | changes))
    es, twin = (RoundedES(config, CURVED, 3, np.random.SeedSequence(1), STD) for _ in range(2))
    for _ in range(3):
        weights, eps = twin.shaped_members()
        es.step()
        for replica in range(3):
            stored, rounder = twin.stored[replica].copy(), Rounder(60, FORMATS[dtype])
            take_fused_step(stored, stored.copy(), list(eps[replica]), weights[replica], config, rounder)
            np.testing.assert_array_equal(es.stored[replica], stored)
        twin.stored, twin.displacement = es.stored.copy(), es.displacement.copy()
    assert np.count_nonzero(es.displacement)


@cache
def simulated(config):
    return simulate(config, FLAT, replicas=60, steps=[5, 20], weight_std=STD, seed=3)


@cache
def emulated(config):
    return emulate(config, SampledWeights.of(normal_weights(STD)), [1, 5, 20], arithmetic="fused")


def judged(config, told):
    """Judge a simulation of ``config`` by the emulator of ``told``."""
    records, emulation = simulated(config), emulated(told)
    observed, warnings = observe(config, FLAT, records, [5, 20], {s: emulation.effect(s) for s in emulation.steps})
    assert "bfloat16" in warnings[0]
    return {verdict.kind for verdict in judge(observed_pairs(observed, LEVEL), LEVEL)}


def test_norms_are_those_of_the_emulator_and_of_no_other_path():
    sequential = replace(RUN, update_path="sequential")
    worn = replace(sequential, restore_pairs=30)
    for config in (RUN, sequential, worn):
        assert "refuted" not in judged(config, config)
    assert judged(RUN, sequential) == judged(sequential, worn) == {"refuted"}


@pytest.mark.parametrize(
    ("changes", "options"),
    [
        ({}, {}),
        ({"dtype": "float32"}, {"weight_std": STD}),
        ({}, {"weight_std": 0.0}),
        ({"dtype": "float16"}, {"weight_std": 1e4}),
        ({}, {"weight_std": STD, "engine": "reduced"}),
        ({}, {"weight_std": STD, "device": "cpu"}),
        ({"momentum": 0.5}, {"weight_std": STD}),
        ({"anchor_l2": 0.1}, {"weight_std": STD}),
        ({"antithetic": True, "restore_pairs": 1}, {"weight_std": STD}),
    ],
)
def test_what_is_not_simulated_is_refused(changes, options):
    with pytest.raises(ConfigError):
        simulate(replace(RUN, **changes), FLAT, replicas=2, **options)


def test_too_many_coordinates_are_refused():
    flat = replace(FLAT, dim=10**7)
    with pytest.raises(ConfigError, match="too many"):
        simulate(replace(RUN, dim=10**7), flat, replicas=1, weight_std=STD)
