"""Run configurations and their TOML form."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from estheory.errors import ConfigError, DataError
from estheory.runs.config import ESRunConfig, GRPORunConfig
from estheory.runs.config_files import load_config, parse_config

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
positive = st.floats(min_value=1e-30, max_value=1e30)


@given(names, names, positive, positive, st.integers(2, 10**9), st.lists(names).map(tuple), st.booleans())
def test_toml_gives_back_every_es_configuration(
    model: str, task: str, sigma: float, alpha: float, population: int, others: tuple[str, ...], permute: bool
) -> None:
    config = ESRunConfig(
        model=model,
        task=task,
        sigma=sigma,
        alpha=alpha,
        population=population,
        steps=7,
        seed=2**63,
        evaluation_tasks=others,
        permute_rewards=permute,
        reward="logprob",
    )
    assert parse_config(config.to_toml(), "here") == config


def test_toml_gives_back_a_grpo_configuration(tmp_path: Path) -> None:
    config = GRPORunConfig(model="m", task="t", steps=3, lr=1e-4, schedule="cosine", samples=4)
    (tmp_path / "config.toml").write_text(config.to_toml())
    assert load_config(tmp_path / "config.toml") == config


@pytest.mark.parametrize(
    "change",
    [
        {"sigma": 0.0},
        {"sigma": float("nan")},
        {"alpha": -1.0},
        {"population": 1},
        {"steps": 0},
        {"prompts": 0},
        {"seed": -1},
        {"reward": "fame"},
        {"checkpoint_every": -1},
    ],
)
def test_values_out_of_range_are_refused(change: dict[str, object]) -> None:
    values: dict[str, object] = {"model": "m", "task": "t", "sigma": 1.0, "alpha": 1.0, "steps": 1}
    ESRunConfig(**values)  # type: ignore[arg-type]
    with pytest.raises(ConfigError):
        ESRunConfig(**{**values, **change})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("sigma = [", "not TOML"),
        ("method = 'magic'", "magic"),
        ("method = ['es']", "method"),
        ("colour = 3", "unknown key 'colour'"),
        ("steps = 1.5", "steps"),
        ("steps = true", "steps"),
        ("sigma = 'big'", "sigma"),
        ("reward = 'fame'", "use one of accuracy, partial, logprob"),
        ("evaluation_tasks = [1]", "evaluation_tasks"),
        ("model = ", "not TOML"),
    ],
)
def test_a_damaged_file_is_refused(line: str, complaint: str) -> None:
    key = line.split(" = ")[0]
    good = ESRunConfig(model="m", task="t", sigma=1.0, alpha=1.0, steps=1).to_toml().splitlines()
    text = "\n".join([*(row for row in good if not row.startswith(f"{key} =")), line])
    with pytest.raises(DataError, match=complaint):
        parse_config(text, "here")


def test_a_missing_key_is_named() -> None:
    with pytest.raises(DataError, match="'alpha' is missing"):
        parse_config('method = "es"\nmodel = "m"\ntask = "t"\nsteps = 1\nsigma = 1.0\n', "here")


def test_checkpoints_are_due_at_multiples_and_at_the_end() -> None:
    config = GRPORunConfig(model="m", task="t", steps=7, checkpoint_every=3)
    assert [step for step in range(8) if config.keeps_checkpoint(step)] == [3, 6, 7]
    last_only = GRPORunConfig(model="m", task="t", steps=7)
    assert [step for step in range(8) if last_only.keeps_checkpoint(step)] == [7]


def test_configurations_and_folders_need_no_torch() -> None:
    code = "import estheory.runs.directory, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
