"""What must hold on every device: the noise's law, a step's length, resumption to the bit, the CPU's answers.

CUDA's noise comes from the device's own generator, so that runs on two devices share their law and not their bits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from estheory import Quantity
from estheory.models.builtin import get_builtin
from estheory.models.load import load_model
from estheory.models.noise import MemberNoise
from estheory.models.parameters import FlatParameters
from estheory.runs.config import GRPORunConfig
from estheory.runs.read import read_own
from estheory.training.es import resume, run_es
from estheory.training.grpo import run_grpo
from estheory.validation.judge import verdict_pvalue
from estheory.validation.own_runs import recorded_pairs
from tests.statistics import Z
from tests.training.runs import contents, es_config

DEVICES = (
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")),
)
pytestmark = pytest.mark.slow
on_each = pytest.mark.parametrize("device", DEVICES)
beside_the_cpu = pytest.mark.parametrize("device", DEVICES[1:])

FALSE_FAILURE_RATE = 1e-6
LOGIT_DIFFERENCE = 1e-3
"""Of logits of size 10 in float32: a thousand roundings of one product."""


@on_each
def test_noise_is_standard_normal_and_members_share_none(device: str) -> None:
    parameters = FlatParameters(load_model("tiny-lm", device=device).model, "all")
    noise = MemberNoise(parameters=parameters, seed=5)
    drawn = torch.empty(4, parameters.dim, device=device)
    for row, (step, member) in enumerate([(1, 0), (1, 1), (2, 0), (1, 0)]):
        noise.fill(drawn[row], step=step, member=member)
    eps = drawn.double().cpu().numpy()
    dim = parameters.dim
    assert np.array_equal(eps[0], eps[3])
    for a, b in [(0, 1), (0, 2), (1, 2)]:
        assert abs(eps[a] @ eps[b]) < Z * math.sqrt(dim)
    every = eps[:3].ravel()
    assert abs(every.mean()) < Z / math.sqrt(every.size)
    assert abs(np.square(every).mean() - 1) < Z * math.sqrt(2 / every.size)
    assert abs((every**4).mean() - 3) < Z * math.sqrt(96 / every.size)


@beside_the_cpu
def test_logits_are_those_of_the_cpu(device: str) -> None:
    tokens = torch.randint(3, 60, (4, 20), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        here, cpu = (load_model("tiny-lm", device=name).model(tokens.to(name)).logits.cpu() for name in (device, "cpu"))
    assert float((here - cpu).abs().max()) <= LOGIT_DIFFERENCE


@on_each
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_es_walks_its_law_and_goes_on_to_the_bit(device: str, dtype: str, tmp_path: Path) -> None:
    config = es_config(device=device, dtype=dtype)
    whole = run_es(config, tmp_path / "whole").directory
    judged = [
        (prediction, measurement)
        for prediction, measurement in recorded_pairs(whole).pairs
        if prediction.quantity == Quantity.DISPLACEMENT_NORM and "coherent" not in measurement.where
    ]
    assert len(judged) == 2  # of the checkpoints
    for prediction, measurement in judged:
        assert verdict_pvalue(prediction, measurement) > FALSE_FAILURE_RATE
        longer = replace(measurement, value=1.1 * measurement.value)
        assert verdict_pvalue(prediction, longer) < FALSE_FAILURE_RATE

    def cut(row: Mapping[str, Any]) -> None:
        if row["step"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_es(config, tmp_path / "cut", on_step=cut)
    resume(tmp_path / "cut")
    assert contents(tmp_path / "cut") == contents(whole)


@on_each
def test_grpo_moves(device: str, tmp_path: Path) -> None:
    config = GRPORunConfig(
        model=str(get_builtin("tiny-lm")), task="reversal", steps=2, prompts=4, samples=4, lr=1e-4, device=device
    )
    run_grpo(config, tmp_path / "grpo")
    run = read_own(tmp_path / "grpo")
    assert 0 < run.steps[-1].norm < 2 * 1.2e-4 * math.sqrt(run.dim)
