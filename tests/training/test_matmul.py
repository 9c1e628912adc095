"""Rewards whose matrix products are rounded to bfloat16, of weights that are not."""

import numpy as np
import pytest

from estheory.errors import ConfigError
from estheory.runs.directory import RunDirectory
from estheory.training.es import run_es
from tests.training.runs import es_config

RUN = {"reward": "logprob", "steps": 2, "prompts": 8, "evaluation_prompts": 8}


def rewards(folder, **options):
    run_es(es_config(**RUN | options), folder)
    return np.array([step.rewards for step in RunDirectory.open(folder).record().steps])


def test_products_are_rounded_and_weights_are_not(tmp_path):
    exact = rewards(tmp_path / "float32")
    rounded = rewards(tmp_path / "bfloat16", matmul="bfloat16")
    gap = np.abs(rounded[0] / exact[0] - 1)  # the members of the first step are the same
    assert 1e-5 < gap.max() < 0.02  # 8 bits
    assert 'matmul = "bfloat16"' in (tmp_path / "bfloat16" / "config.toml").read_text()


def test_two_workers_make_the_same_rewards(tmp_path):
    few = {"matmul": "bfloat16", "steps": 1, "population": 4}
    one = rewards(tmp_path / "one", **few)
    two = rewards(tmp_path / "two", **few, workers=2)
    assert np.array_equal(one, two)


def test_16_bit_weights_have_such_products_already():
    with pytest.raises(ConfigError, match="leave matmul or dtype out"):
        es_config(matmul="bfloat16", dtype="bfloat16")
