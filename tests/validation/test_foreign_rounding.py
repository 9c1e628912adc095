"""Runs of other code in 16 bits, made by that code's own operations, against the emulator on their base weights."""

import json
import math
import shutil

import numpy as np
import pytest

from estheory.errors import DataError
from estheory.floats import FORMATS, rounded
from estheory.quantities import Quantity
from estheory.rules import ESConfig
from estheory.runs.view import Given
from estheory.simulation.emulator.adamw import Gradients, adamw_walks
from estheory.simulation.emulator.steps import Rounder, take_awd_step, take_step
from estheory.simulation.emulator.strata import SampledWeights
from estheory.theory.gradient_path import GradientPath
from estheory.theory.rounding.weights import normal_weights
from estheory.validation.foreign_rounding import FAMILY, OWN_WEIGHTS, walk_square
from estheory.validation.foreign_runs import foreign_evidence
from estheory.validation.judge import exit_code, judge
from tests.statistics import Z

torch = pytest.importorskip("torch")
from transformers import AutoModelForCausalLM  # noqa: E402

from tests.validation import foreign_runs as make  # noqa: E402
from tests.variants import variants  # noqa: E402

LEVEL = 1e-6
"""Family-wise level of every judgement here: a true law is refuted that rarely."""
ALPHA = 3e-4
DTYPES = [torch.bfloat16, pytest.param(torch.float16, marks=pytest.mark.slow)]


def verdicts(path, base=None, **options):
    record = foreign_evidence(path, base, Given(**options))
    return judge(record.pairs, LEVEL)


def norms(judged):
    return [v for v in judged if v.prediction.quantity is Quantity.DISPLACEMENT_NORM]


@pytest.fixture
def base(tmp_path):
    def save(dtype):
        make.base_model(dtype).save_pretrained(tmp_path / "base")
        return tmp_path / "base"

    return save


@pytest.mark.parametrize("dtype", DTYPES)
def test_esvsgrpo(tmp_path, dtype):
    make.esvsgrpo_es(tmp_path / "run", dtype=dtype, alpha=ALPHA, stalled=(3,))
    judged = verdicts(tmp_path / "run")
    assert exit_code(judged) == 0
    assert norms(judged)[-1].kind == "consistent"
    assert all(OWN_WEIGHTS in v.prediction.assumptions for v in judged)
    # the engine that takes the update serves three to five of the eight members: a band, apart from the spread
    assert all(0 < v.prediction.systematic < 0.02 for v in norms(judged))
    assert exit_code(verdicts(tmp_path / "run", alpha=0.000315, restore_pairs=4)) == 3


def test_the_update_path_is_told_apart(tmp_path):
    """Members added one by one are lost where their sum is not: the other path is refuted, both ways."""
    for code, other in (("sequential", "accumulated"), ("accumulated", "sequential")):
        run = tmp_path / code
        make.esvsgrpo_es(run, dtype=torch.bfloat16, alpha=1e-4, code=code, engines=8)
        told = {"restore_pairs": 1}
        assert exit_code(verdicts(run, update_path=code, **told)) in (0, 4)
        wrong = verdicts(run, update_path=other, **told)
        assert {v.kind for v in norms(wrong)} == {"refuted"}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mirrored", variants([False, True], fast={True}))
def test_es_awd(tmp_path, base, dtype, mirrored):
    alpha = 1e-4 if dtype is torch.bfloat16 else ALPHA  # a few spacings of the weights either way
    make.es_awd(tmp_path / "run", dtype=dtype, alpha=alpha, mirrored=mirrored, stalled=(4,), engines=1)
    origin = base(dtype)
    judged = verdicts(tmp_path / "run", origin)
    assert exit_code(judged) == (4 if dtype is torch.bfloat16 else 0)  # few coordinates carry what is left there
    assert {v.prediction.systematic for v in judged} == {0.0}  # nothing is left open
    layers = {v.measurement.where for v in judged if v.measurement.where.startswith("logged:")}
    assert layers == {"logged:embedding", "logged:layer_0", "logged:layer_1", "logged:lm_head"}
    if dtype is torch.bfloat16:  # restoring in place leaves a residue there; float16 is eight times finer
        assert "refuted" in {v.kind for v in norms(verdicts(tmp_path / "run", origin, restore_pairs=0))}
    wrong = 1.05 if dtype is torch.float16 else 1.2
    assert "refuted" in {v.kind for v in norms(verdicts(tmp_path / "run", origin, alpha=wrong * alpha))}


@pytest.mark.slow
def test_an_l1_anchor_of_es_awd(tmp_path, base):
    """Emulated with its pull; without the pull, or with one a quarter stronger, it would be another walk."""
    make.es_awd(tmp_path / "run", dtype=torch.float16, alpha=ALPHA, decay="l1", strength=0.1, stalled=(4,))
    origin = base(torch.float16)
    judged = verdicts(tmp_path / "run", origin)
    assert exit_code(judged) == 0
    file = tmp_path / "run/args.json"
    told = json.loads(file.read_text())
    for strength in (0.0, 0.125):
        file.write_text(json.dumps({**told, "weight_decay_lambda": strength}))
        assert "refuted" in {v.kind for v in norms(verdicts(tmp_path / "run", origin))}


def test_without_weights_the_declared_family_stands_in(tmp_path):
    make.es_awd(tmp_path / "run", dtype=torch.bfloat16, alpha=ALPHA)
    judged = verdicts(tmp_path / "run")
    assert {v.measurement.where.split(":")[0] for v in judged} == {"logged"}
    assert all(FAMILY in v.prediction.assumptions and v.prediction.systematic > 0.02 for v in judged)
    assert exit_code(judged) == 4  # a band that wide lets nothing be refuted
    assert exit_code(verdicts(tmp_path / "run", alpha=1.3 * ALPHA)) == 3


def test_a_base_in_another_format_is_rounded_first(tmp_path, base):
    """The run began with float16 weights; measured from the float32 base, rounding that would count as a step."""
    make.es_awd(tmp_path / "run", dtype=torch.float16, alpha=1e-5, decay="none", strength=0.0)
    assert "refuted" not in {v.kind for v in verdicts(tmp_path / "run", base(torch.float32))}


@pytest.mark.parametrize("version", variants(["robin", "static", "package"], fast={"robin"}))
def test_es_at_scale(tmp_path, base, version):
    pytest.importorskip("tensorboard")
    name = f"es-countdown-sigma{make.SIGMA}-alpha{ALPHA}-pop{make.POPULATION}-bs200-tkn512-modelx-seed42-2026"
    run = tmp_path / (name if version == "package" else "countdown_nccl")
    make.es_at_scale(run, version=version, dtype=torch.bfloat16, alpha=ALPHA)
    given = {"alpha": ALPHA, "population": make.POPULATION} if version == "robin" else {}
    record = foreign_evidence(run, base(torch.bfloat16), Given(**given, sigma=make.SIGMA))
    [norm] = norms(judge(record.pairs, LEVEL))
    assert norm.kind != "refuted"
    assert (norm.prediction.systematic > 0) == (version != "static")  # only args.json tells the number of engines
    assert norm.measurement.step == 15 + (version == "package")
    if version == "robin":
        with pytest.raises(DataError, match="give --sigma"):
            verdicts(run, tmp_path / "base", **given)


def test_adamw_in_16_bits(tmp_path):
    """trl's fixture trains bfloat16 parameters themselves; ESvsGRPO does so, too: there nothing is left open."""
    make.trl(tmp_path / "run", dtype=torch.bfloat16)
    open_ended = verdicts(tmp_path / "run", tmp_path / "base")
    assert {v.kind for v in open_ended} == {"underpowered"}  # a float32 copy may have been kept
    assert all(v.prediction.systematic > 0.05 for v in open_ended)
    make.esvsgrpo_grpo(tmp_path / "grpo", dtype=torch.bfloat16)
    judged = verdicts(tmp_path / "grpo")
    assert {v.prediction.systematic for v in judged} == {0.0}
    assert exit_code(judged) != 3
    assert exit_code(judged) == 0
    make.esvsgrpo_grpo(tmp_path / "exact")  # what bfloat16 weights would have done with a float32 copy, or nearly
    for k in (0, 1):
        end = f"c0_t{k}_{make.TASKS[k][0]}"
        shutil.rmtree(tmp_path / "grpo" / end)
        weights = AutoModelForCausalLM.from_pretrained(tmp_path / "exact" / end, dtype=torch.bfloat16)
        weights.save_pretrained(tmp_path / "grpo" / end)
    assert {v.kind for v in verdicts(tmp_path / "grpo")} == {"refuted"}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_rounding_of_adamw_is_torch_s(dtype):
    """Mean square displacement against torch.optim.AdamW itself; in exact arithmetic it would be another."""
    kind, steps, size = getattr(torch, dtype), 40, 100_000
    weights = SampledWeights.of(normal_weights(0.02))
    rates = 1e-5 * (1 - np.arange(steps) / steps)
    for copy in (True,) if dtype == "float16" else (True, False):
        torch.manual_seed(1)
        start = (0.02 * torch.randn(size)).to(kind)
        parameter = torch.nn.Parameter(start.float() if copy else start.clone())
        optimiser = torch.optim.AdamW([parameter], lr=1e-5, weight_decay=0.0)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda t: 1 - t / steps)
        for _ in range(steps):
            parameter.grad = torch.randn(size).to(parameter.dtype)
            optimiser.step()
            schedule.step()
        squares = (parameter.detach().to(kind).double() - start.double()).square().numpy()
        walk = adamw_walks(weights, dtype, rates, [steps], copy=copy)[steps]
        error = math.hypot(1.24 * walk.stderr, squares.std() / math.sqrt(size))
        assert abs(squares.mean() - walk.variance) < Z * error
        if not copy:
            assert abs(squares.mean() - walk_square(rates)) > Z * error
            assert abs(walk.variance - walk_square(rates)) > Z * error


def test_rounding_of_adamw_is_torch_s_where_gradients_keep_a_common_part():
    """In place and on a float32 copy; what fades and turns, and steps without a gradient."""
    steps, size, shared = 40, 100_000, np.array([[0.3, 0.15, 0.1], [0.15, 0.2, 0.1], [0.1, 0.1, 0.2]])
    times, squares = np.array([0.0, 15.0, 40.0]), np.array([1.0, 0.9, 0.6])
    path = GradientPath(dim=size, times=times, shared=shared, squares=squares, along=np.zeros(3))
    rates = 1e-5 * (1 - np.arange(steps) / steps)
    weights = SampledWeights.of(normal_weights(0.02))
    known = Gradients.along(path, steps)
    active = np.arange(steps) % 4 != 1
    for gradients in (known, Gradients.of_noise(steps, active)):
        for copy in (True, False):
            torch.manual_seed(2)
            start = (0.02 * torch.randn(size)).to(torch.bfloat16)
            parameter = torch.nn.Parameter(start.float() if copy else start.clone())
            optimiser = torch.optim.AdamW([parameter], lr=1e-5, weight_decay=0.0)
            schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda t: 1 - t / steps)
            common = torch.randn(size, gradients.means.shape[1])
            for mean, noise in zip(torch.tensor(gradients.means).float(), gradients.noise, strict=True):
                parameter.grad = (common @ mean + float(noise) * torch.randn(size)).to(parameter.dtype)
                optimiser.step()
                schedule.step()
            squared = (parameter.detach().to(torch.bfloat16).double() - start.double()).square().numpy()
            walk = adamw_walks(weights, "bfloat16", rates, [steps], copy=copy, gradients=gradients)[steps]
            error = math.hypot(1.24 * walk.stderr, squared.std() / math.sqrt(size))
            assert abs(squared.mean() - walk.variance) < Z * error
            plain = adamw_walks(weights, "bfloat16", rates, [steps], copy=copy)[steps].variance
            if gradients is known:
                assert walk.variance > plain + Z * error  # control: noise alone
                if copy:  # against the law: what rounding when looking adds is the same as for noise
                    told = path.mean_square(rates, steps) / size
                    rounding = plain - walk_square(rates)
                    assert walk.variance - rounding == pytest.approx(
                        told, rel=0.08
                    )  # mean-field: means of a third of the square


def test_what_the_emulator_lacks_is_said(tmp_path):
    make.esvsgrpo_es(tmp_path / "run", dtype=torch.bfloat16, alpha=ALPHA)
    file = tmp_path / "run/config.json"
    config = json.loads(file.read_text())
    for key, value in (("sigma", 2e-3), ("population_size", 16)):
        changed = json.loads(json.dumps(config))
        changed["tasks"][1][key] = value
        file.write_text(json.dumps(changed))
        with pytest.raises(DataError, match=r"one sigma|different populations"):
            verdicts(tmp_path / "run")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize(("mirrored", "anchored"), [(False, "anchor_l2"), (True, "anchor_l2"), (False, "anchor_l1")])
def test_a_step_of_es_awd_is_torch_s_bit_by_bit(dtype, mirrored, anchored):
    rng, size, kind = np.random.default_rng(0), 4096, getattr(torch, dtype)
    start = {"w": torch.from_numpy(rounded(0.05 * rng.standard_normal(size), FORMATS[dtype])).to(kind)}
    theirs = make.RoundedWalk(start, "awd", sigma=1.5e-3)
    anchor = {"pull": 5e-4} if anchored == "anchor_l1" else {"kappa": 0.1}
    _, z, seeds = theirs.step(alpha=7.5e-4, population=6, mirrored=mirrored, **anchor)
    noise, pairs = [make.noise_of(start["w"], seed).float().numpy() for seed in seeds], len(z)
    if mirrored:
        noise, z, pairs = [v for eps in noise for v in (eps, -eps)], np.column_stack([z, 0 * z]).ravel(), 2 * pairs
    rules = {
        anchored: next(iter(anchor.values())),
        "anchor_form": "after",
        "restore_pairs": pairs,
        "antithetic": mirrored,
    }
    config = ESConfig(dim=size, sigma=1.5e-3, alpha=7.5e-4, population=6, dtype=dtype, **rules)
    first = start["w"].float().numpy()
    ours = first.copy()
    take_awd_step(ours, first, noise, 7.5e-4 / 6 * z, config, Rounder(size, FORMATS[dtype]))
    assert np.array_equal(ours, theirs.state["w"].float().numpy())
    other = first.copy()
    take_step(other, first, noise, 7.5e-4 / 6 * z, config, Rounder(size, FORMATS[dtype]))
    assert not np.array_equal(other, ours)
