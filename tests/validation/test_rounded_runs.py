"""Real 16-bit runs of tiny-lm, against the emulator on the weights they start from."""

import shutil

import numpy as np
import pytest

from estheory.errors import DataError
from estheory.floats import FORMATS, rounded
from estheory.quantities import Quantity
from estheory.rules import ESConfig
from estheory.simulation.emulator.steps import Rounder, take_fused_step
from estheory.validation.judge import exit_code, judge
from estheory.validation.own_runs import recorded_pairs
from tests.variants import variants

torch = pytest.importorskip("torch")

LEVEL = 1e-6
SMALL = {"sigma": 0.0015, "alpha": 0.00075, "population": 10, "steps": 8, "checkpoint_every": 4, "prompts": 2}
PLAIN = {"evaluation_prompts": 2, "reward": "logprob", "permute_rewards": True}


def make(folder, **changes):
    from estheory.training.es import run_es
    from tests.training.runs import es_config

    run_es(es_config(**SMALL | PLAIN | changes), folder)
    return folder


def verdicts(folder):
    """Judge a run at the false-failure rate of this suite: at 5 % one right run in twenty would be refuted."""
    return judge(recorded_pairs(folder).pairs, LEVEL)


def say_otherwise(folder, copy, old, new):
    """Let the record of a run claim another setting than the one it was made with."""
    shutil.copytree(folder, copy)
    text = (copy / "config.toml").read_text()
    assert old in text
    (copy / "config.toml").write_text(text.replace(old, new))
    return copy


RUNS = [(dtype, path) for dtype in ("bfloat16", "float16") for path in ("accumulated", "sequential")]


@pytest.mark.parametrize(
    "rounding", variants(RUNS, fast=[("bfloat16", "sequential"), ("float16", "accumulated")]), ids="-".join
)
def test_real_runs_are_consistent_and_another_update_path_is_refuted(rounding, tmp_path):
    dtype, path = rounding
    run = make(tmp_path / "run", dtype=dtype, update_path=path)
    found = verdicts(run)
    assert exit_code(found) == 0
    quantities = {v.prediction.quantity for v in found}
    assert quantities == {Quantity.STEP_NORM, Quantity.DISPLACEMENT_NORM, Quantity.EFFECTIVE_DIMENSION_RATIO}
    if dtype == "bfloat16":
        other = "sequential" if path == "accumulated" else "accumulated"
        wrong = say_otherwise(run, tmp_path / "wrong", f'update_path = "{path}"', f'update_path = "{other}"')
        assert exit_code(verdicts(wrong)) == 3
    else:
        wrong = say_otherwise(run, tmp_path / "wrong", 'dtype = "float16"', 'dtype = "bfloat16"')
        assert exit_code(verdicts(wrong)) == 3


@pytest.mark.parametrize(
    "changes",
    variants(
        [{"restore_pairs": 5, "update_path": "sequential"}, {"antithetic": True}, {"anchor_l2": 0.1}],
        fast=[{"restore_pairs": 5, "update_path": "sequential"}],
    ),
)
def test_other_rules(changes, tmp_path):
    run = make(tmp_path / "run", dtype="bfloat16", **changes)
    assert exit_code(verdicts(run)) == 0
    if "restore_pairs" in changes:
        wrong = say_otherwise(run, tmp_path / "wrong", "restore_pairs = 5", "restore_pairs = 0")
        assert exit_code(verdicts(wrong)) == 3


def test_a_damaged_dtype_is_one_line(tmp_path):
    run = make(tmp_path / "run")
    broken = say_otherwise(run, tmp_path / "broken", 'dtype = "float32"', "dtype = true")
    with pytest.raises(DataError, match="dtype = True: use one of"):
        verdicts(broken)


def test_what_is_not_emulated_is_refused(tmp_path):
    run = make(tmp_path / "run", dtype="bfloat16", momentum=0.5)
    with pytest.raises(DataError, match="momentum"):
        verdicts(run)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("path", ["accumulated", "sequential"])
def test_a_fused_step_is_torch_s_bit_by_bit(dtype, path):
    rng, size, kind = np.random.default_rng(0), 4096, getattr(torch, dtype)
    config = ESConfig(
        dim=size, sigma=1.5e-3, alpha=7.5e-4, population=6, dtype=dtype, update_path=path, restore_pairs=2
    )
    start = rounded(0.05 * rng.standard_normal(size), FORMATS[dtype])
    noise = [rng.standard_normal(size).astype(np.float32) for _ in range(6)]
    factors = 0.001 * rng.standard_normal(6)
    ours, theirs = start.copy(), torch.from_numpy(start).to(kind)
    take_fused_step(ours, start, noise, factors, config, Rounder(size, FORMATS[dtype]))
    for eps in noise[:2]:
        theirs.add_(torch.from_numpy(eps).mul(1.5e-3))
        theirs.sub_(torch.from_numpy(eps).mul(1.5e-3))
    terms = [torch.from_numpy(eps).mul(float(f)) for eps, f in zip(noise, factors, strict=True)]
    total = torch.zeros(size)
    for term in terms:
        total.add_(term)
        if path == "sequential":
            theirs.add_(term)
    if path == "accumulated":
        theirs.add_(total)
    assert np.array_equal(ours, theirs.float().numpy())
    assert not np.array_equal(ours, start)


def test_grpo_in_place_is_judged_by_its_own_rounding(tmp_path):
    """A norm made by torch's AdamW on pure noise in place is not refuted; one made in float32 is."""
    import json

    from estheory.models.builtin import get_builtin
    from estheory.models.checkpoints import open_checkpoint
    from estheory.runs.config import GRPORunConfig
    from estheory.training.grpo import run_grpo

    rate, steps = 2e-5, 4
    tiny = {"model": "tiny-lm", "task": "addition", "prompts": 2, "samples": 2, "evaluation_prompts": 2}
    run = tmp_path / "run"
    run_grpo(GRPORunConfig(**tiny, steps=steps, lr=rate, schedule="constant", dtype="bfloat16"), run)
    base = open_checkpoint(get_builtin("tiny-lm"))
    flat = torch.from_numpy(np.concatenate([base.read(name) for name in base.tensors]))
    norms = {}
    for dtype in (torch.bfloat16, torch.float32):
        weights = flat.to(dtype).requires_grad_()
        start = weights.detach().double().clone()
        optimizer = torch.optim.AdamW([weights], lr=rate, weight_decay=0.0)
        generator = torch.Generator().manual_seed(1)
        for _ in range(steps):
            weights.grad = torch.randn(len(flat), generator=generator).to(dtype)
            optimizer.step()
        norms[dtype] = float((weights.detach().double() - start).norm())
    rows = [json.loads(line) for line in (run / "steps.jsonl").read_text().splitlines()]
    refuted = {}
    for dtype, norm in norms.items():
        rows[-1]["norm"] = norm
        (run / "steps.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        [verdict] = verdicts(run)
        refuted[dtype] = verdict.kind == "refuted"
    assert refuted == {torch.bfloat16: False, torch.float32: True}
