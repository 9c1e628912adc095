"""Every option of the ES engine against a plain float64 reimplementation, and against replay and resume."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from estheory.errors import ConfigError
from estheory.models.load import load_model
from estheory.models.noise import MemberNoise
from estheory.models.noise_streams import NoiseStructure
from estheory.models.parameters import FlatParameters
from estheory.runs.config import ESRunConfig
from estheory.runs.config_files import parse_config
from estheory.runs.directory import RunDirectory
from estheory.theory.effective_dimension import low_rank_dimension, shared_seed_dimension
from estheory.training.es import resume, run_es
from estheory.training.replay import replay
from estheory.training.session import start_session
from tests.statistics import agrees, variance_agrees
from tests.training.runs import contents, es_config
from tests.variants import variants

SMALL = {"steps": 3, "population": 4, "prompts": 6, "checkpoint_every": 2, "evaluation_prompts": 4}

EXACT: dict[str, dict[str, Any]] = {
    "centred rank": {"shaping": "centered-rank"},
    "raw": {"shaping": "raw", "alpha": 1e-3, "reward": "partial"},
    "two-point": {"shaping": "two-point", "alpha": 1e-3, "population": 3},
    "antithetic": {"antithetic": True},
    "low rank": {"noise": "low-rank:2"},
    "shared seed": {"noise": "shared-seed"},
    "anchor L2 before": {"anchor_l2": 0.3},
    "anchor L2 after": {"anchor_l2": 0.3, "anchor_form": "after"},
    "anchor L1 before": {"anchor_l1": 1e-3},
    "anchor L1 after": {"anchor_l1": 1e-3, "anchor_form": "after"},
    "momentum": {"momentum": 0.7},
    "momentum and anchor": {"momentum": 0.7, "anchor_l2": 0.2, "anchor_form": "after"},
    "last block": {"trainable": "last:1"},
    "regex": {"trainable": "regex:mlp"},
    "lora": {"trainable": "lora:2", "reward": "logprob", "sigma": 0.1, "alpha": 0.05},
    "module sigma": {"module_sigma": ("embed=0.5", "layers.0=2")},
    "sampled": {"decode": "sample", "shaping": "centered-rank"},
    "training set": {"train_set": 9, "reward": "partial"},
    "bfloat16": {"dtype": "bfloat16", "reward": "partial"},
    "bfloat16, one by one": {"dtype": "bfloat16", "update_path": "sequential", "reward": "partial"},
    "bfloat16, restored": {"dtype": "bfloat16", "restore_pairs": 3, "reward": "partial"},
    "float16, as the reference": {
        **{"dtype": "float16", "update_path": "sequential", "restore_pairs": 4, "noise": "shared-seed"},
        **{"reward": "logprob"},
    },
}

ALSO_ELSEWHERE = {"anchor L2 before", "momentum", "bfloat16", "float16, as the reference"}
"""Options of which another entry has a part: those are left to the slow tests."""


def shaped(config: ESRunConfig, rewards: list[float]) -> list[float]:
    """The coefficients, written out with Python numbers."""
    n, mean = len(rewards), math.fsum(rewards) / len(rewards)
    if config.shaping == "two-point":
        return [(rewards[k] - rewards[k + 1]) / (2 * config.sigma) for k in range(0, n, 2)]
    if len(set(rewards)) == 1:
        return [0.0] * n
    if config.shaping == "centered-rank":
        ordered = sorted(rewards)
        places = [[k for k, other in enumerate(ordered) if other == value] for value in rewards]
        return [sum(place) / len(place) / (n - 1) - 0.5 for place in places]
    scale = config.sigma if config.shaping == "raw" else math.sqrt(math.fsum((r - mean) ** 2 for r in rewards) / n)
    return [(reward - mean) / scale for reward in rewards]


def noise(config: ESRunConfig, parameters: FlatParameters, step: int, direction: int) -> torch.Tensor:
    """One direction's noise, its per-module factors applied here."""
    eps = torch.empty(parameters.dim)
    structure = NoiseStructure(kind=config.noise)
    noise = MemberNoise(parameters=parameters, seed=config.seed, structure=structure)
    noise.fill(eps, step=step, member=direction)
    for name, view in parameters.items(eps):
        for entry in config.module_sigma:
            pattern, _, factor = entry.rpartition("=")
            if re.search(pattern, name):
                view.mul_(float(factor))
                break
    return eps


def reimplemented(config: ESRunConfig, rows: list[dict[str, Any]]) -> tuple[torch.Tensor, torch.Tensor]:
    """theta_0 and theta_T from the logged rewards: whole vectors, one formula a line."""
    session = start_session(config, evaluates=False)
    parameters, dtype = session.parameters, session.base.dtype
    start = session.base.double()
    theta, velocity = start.clone(), torch.zeros_like(start)
    n, pairs = config.population, config.antithetic or config.shaping == "two-point"
    for row in rows:
        eps = [noise(config, parameters, row["step"], k) for k in range(n // 2 if config.antithetic else n)]
        for k in range(config.restore_pairs):
            sign, e = (1 - 2 * (k % 2), eps[k // 2]) if pairs else (1, eps[k])
            for delta in (sign * config.sigma * e, -sign * config.sigma * e):
                theta = (theta.float() + delta).to(dtype).double()
        z = shaped(config, row["rewards"])
        w = [z[k] - z[k + 1] for k in range(0, n, 2)] if config.antithetic else z
        terms = [config.alpha / n * weight * e.double() for weight, e in zip(w, eps, strict=True)]
        if config.update_path == "sequential":
            for term in terms:
                theta = (theta.float() + term.float()).to(dtype).double()
            continue
        velocity = config.momentum * velocity + (1 - config.momentum) * torch.stack(terms).sum(0)
        moved = theta + velocity
        away = (moved if config.anchor_form == "after" else theta) - start
        theta = moved - config.anchor_l2 * away - config.anchor_l1 * away.sign()
        theta = theta.to(dtype).double() if dtype != torch.float32 else theta
    return start, theta


@pytest.mark.parametrize("name", variants(EXACT, fast=set(EXACT) - ALSO_ELSEWHERE))
def test_option_is_its_formula_and_replays_and_resumes_to_the_bit(name: str, tmp_path: Path) -> None:
    config = es_config(**{**SMALL, **EXACT[name]})
    assert parse_config(config.to_toml(), "here") == config
    run_es(config, tmp_path / "run")
    run = RunDirectory.open(tmp_path / "run")
    rows = run.steps()
    for row in rows:
        assert row["coefficients"] == pytest.approx(shaped(config, row["rewards"]), rel=1e-9, abs=1e-9)
        assert len(row["rewards"]) == config.evaluations
    assert any(any(row["coefficients"]) for row in rows)
    start, expected = reimplemented(config, rows)
    rebuilt = replay(tmp_path / "run", 3)
    if config.dtype == "float32":
        # float32 keeps 24 bits of a weight in each of 3 steps; the update's own rounding is far smaller
        bound = 3 * 2.0**-23 * (expected.abs() + 20 * config.alpha)
        different = (rebuilt.double() - expected).abs() > bound
        # a pull of constant length turns where rounding decides the sign of a weight's displacement
        assert int(different.sum()) <= (len(expected) // 1000 if config.anchor_l1 else 0)
    else:  # the grid of the dtype: the same point but where float32 and float64 round a tie's neighbour apart
        assert float((rebuilt.double() != expected).double().mean()) < 1e-3
    assert float((expected - start).norm()) == pytest.approx(rows[-1]["norm"], rel=1e-3)
    last = torch.empty_like(rebuilt)
    session = start_session(config, evaluates=False)
    session.parameters.read_safetensors(run.checkpoint(3), last)
    assert torch.equal(rebuilt, last)
    before = contents(tmp_path / "run")
    cut(tmp_path / "run")
    resume(tmp_path / "run")
    assert contents(tmp_path / "run") == before


def cut(directory: Path) -> None:
    """Take the last step away, as a kill would."""
    lines = (directory / "steps.jsonl").read_bytes().splitlines(keepends=True)
    (directory / "steps.jsonl").write_bytes(b"".join(lines[:2]))
    (directory / "checkpoints" / "step_000003.safetensors").unlink()
    rows = (directory / "evaluations.jsonl").read_bytes().splitlines(keepends=True)
    (directory / "evaluations.jsonl").write_bytes(b"".join(row for row in rows if json.loads(row)["step"] < 3))


def test_the_comparison_can_fail(tmp_path: Path) -> None:
    """The negative control: the run's own rewards with a slightly different rule give other parameters."""
    config = es_config(**{**SMALL, "anchor_l2": 0.3})
    run_es(config, tmp_path / "run")
    other = es_config(**{**SMALL, "anchor_l2": 0.3, "anchor_form": "after"})
    _, expected = reimplemented(other, RunDirectory.open(tmp_path / "run").steps())
    rebuilt = replay(tmp_path / "run", 3).double()
    assert ((rebuilt - expected).abs() > 3 * 2.0**-23 * (expected.abs() + 20 * config.alpha)).float().mean() > 0.9


def test_members_depend_on_options_as_they_should(tmp_path: Path) -> None:
    """Sampling changes answers and repeats itself; a training set of `prompts` examples is seen whole each step."""
    greedy = start_session(es_config(**SMALL, train_set=6), evaluates=False)
    assert greedy.training_examples(1) == greedy.training_examples(2)
    drawn = start_session(es_config(**SMALL, train_set=9), evaluates=False)
    first, second = drawn.training_examples(1), drawn.training_examples(2)
    assert first != second
    assert len({example.prompt for example in first}) == 6
    assert {e.prompt for t in range(1, 30) for e in drawn.training_examples(t)} == {e.prompt for e in drawn.train_set}
    a, b = (torch.rand(4, generator=greedy.sampler(1, 0).generator) for _ in range(2))
    assert torch.equal(a, b)
    assert not torch.equal(a, torch.rand(4, generator=greedy.sampler(1, 1).generator))
    assert not torch.equal(a, torch.rand(4, generator=greedy.sampler(2, 0).generator))


def test_adapters_leave_the_model_as_it_was_and_are_the_seed_s(tmp_path: Path) -> None:
    plain = load_model("tiny-lm").model
    ids = torch.arange(10)[None]
    one, same, other = (start_session(es_config(trainable="lora:2", seed=s), evaluates=False) for s in (1, 1, 2))
    with torch.inference_mode():
        assert torch.equal(plain(ids).logits, one.loaded.model(ids).logits)
    assert torch.equal(one.base, same.base)
    assert not torch.equal(one.base, other.base)
    assert one.parameters.dim == sum(math.prod(shape) for shape in one.parameters.shapes) == 2 * (4 * 96 + 3 * 176) * 2


@pytest.mark.parametrize("noise_kind", ["gaussian", "shared-seed", "low-rank:1", "low-rank:3"])
def test_noise_structures_have_their_covariance(noise_kind: str) -> None:
    parameters = FlatParameters(load_model("tiny-lm").model)
    draw, squares = torch.empty(parameters.dim), []
    for member in range(200):
        noise = MemberNoise(parameters=parameters, seed=1, structure=NoiseStructure(kind=noise_kind))
        noise.fill(draw, step=1, member=member)
        squares.append(float(draw.double().square().mean()))
    dim = float(parameters.dim)
    if noise_kind == "shared-seed":
        dim = shared_seed_dimension(parameters.shapes)
    elif noise_kind.startswith("low"):
        dim = low_rank_dimension(parameters.shapes, int(noise_kind[-1]), fourth_moment=1.0, terms=1.0)
    assert agrees(squares, 1.0)
    assert not agrees(squares, 1 + math.sqrt(2 / dim))
    assert variance_agrees(squares, 2 / dim)
    assert not variance_agrees(squares, 5 / dim)
    by_shape: dict[tuple[int, ...], list[str]] = {}
    for name, shape in zip(parameters.names, parameters.shapes, strict=True):
        by_shape.setdefault(shape, []).append(name)
    names = next(group for shape, group in by_shape.items() if len(group) > 1 and len(shape) == 2)
    a, b = (parameters.tensor(name, draw) for name in names[:2])
    assert torch.equal(a, b) == (noise_kind == "shared-seed")
    rank = int(np.linalg.matrix_rank(a.numpy().astype(float), tol=1e-4))
    assert rank == (int(noise_kind[-1]) if noise_kind.startswith("low") else min(a.shape))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"anchor_form": "after"}, "anchor"),
        ({"decode": "sample", "reward": "logprob"}, "no effect"),
        ({"update_path": "sequential", "momentum": 0.5}, "sequential"),
        ({"restore_pairs": 7}, "restore-pairs"),
        ({"train_set": 4}, "training set"),
        ({"module_sigma": ("mlp",)}, "module-sigma"),
        ({"module_sigma": ("mlp=-1",)}, "factor"),
        ({"module_sigma": ("(=2",)}, "module-sigma"),
        ({"antithetic": True, "population": 5}, "even population"),
        ({"antithetic": True, "shaping": "raw"}, "antithetic"),
        ({"noise": "pink"}, "pink"),
        ({"dtype": "int8"}, "int8"),
        ({"workers": 0}, "workers"),
        ({"executor": "cloud"}, "cloud"),
    ],
)
def test_options_that_cannot_be_are_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        es_config(**change)


def test_a_module_pattern_must_match(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="matches no trained tensor"):
        run_es(es_config(module_sigma=("attention_of_the_heart=2",)), tmp_path / "run")
    assert not (tmp_path / "run").exists()
