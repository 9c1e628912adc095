"""What several runs have in common, judged from their folders."""

import json
import math
from dataclasses import replace

import pytest

pytest.importorskip("transformers")

from estheory.quantities import Quantity
from estheory.runs.config import ESRunConfig
from estheory.training.es import run_es
from estheory.validation.gradient_path_pairs import PROBED
from estheory.validation.own_runs import evidence_of_runs
from estheory.validation.run_against_run import COMMON, UNRELATED

CONFIG = ESRunConfig(
    model="tiny-lm", task="reversal", steps=3, sigma=0.015, alpha=0.0075, population=8, prompts=8, antithetic=True,
    evaluation_prompts=4, checkpoint_every=3,
)  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two seeds of one task, the first seed again, and another task."""
    folder = tmp_path_factory.mktemp("runs")
    made = {"a": CONFIG, "b": replace(CONFIG, seed=1), "c": replace(CONFIG, task="addition", seed=2)}
    for name, config in made.items():
        run_es(config, folder / name)
    return folder


def test_two_seeds_are_judged_with_and_without_what_they_share(runs):
    pairs = [
        (p, m)
        for p, m in evidence_of_runs([runs / "a", runs / "b", runs / "c"]).pairs
        if p.quantity is Quantity.INDEPENDENT_COSINE
    ]
    where = {m.where: (p, m) for p, m in pairs}
    assert set(where) == {
        *(f"{pair}, {UNRELATED}" for pair in ("a|b", "a|c", "b|c")),
        f"a|b, {COMMON}",  # another task has another gradient
    }
    common, measured = where[f"a|b, {COMMON}"]
    assert common.law.std >= 1 / 59184**0.5
    assert abs(measured.value) < 5 * common.law.std
    assert common.label == "mean-field"


def test_runs_of_other_noise_or_without_motion_have_no_law_of_cosines(runs, tmp_path):
    run_es(replace(CONFIG, noise="shared-seed", antithetic=False, seed=7), tmp_path / "shared")
    run_es(replace(CONFIG, noise="low-rank:1", seed=8), tmp_path / "factors")
    run_es(replace(CONFIG, sigma=1e-7, alpha=1e-7, antithetic=False, seed=9), tmp_path / "still")
    still = evidence_of_runs([tmp_path / "still", runs / "a"]).pairs
    assert all(math.isfinite(m.value) for _, m in still)
    for name in ("shared", "factors"):
        pairs = evidence_of_runs([tmp_path / name, runs / "a"]).pairs
        assert not [m.where for _, m in pairs if "|a," in m.where]
        assert not [m.where for _, m in pairs if "coherent" in m.where and name in m.where]


def test_several_runs_on_the_command_line(estheory, runs):
    result = estheory("validate", runs / "a", runs / "b", "--json")
    assert result.code in (0, 3, 4)
    assert "independent_cosine" in {row["quantity"] for row in json.loads(result.out)["verdicts"]}
    twice = estheory("validate", runs / "a", runs / "a")
    assert (twice.code, twice.out) == (2, "")
    assert "given twice" in twice.err
    described = estheory("validate", runs / "a", runs / "b", "--sigma", 0.1)
    assert described.code == 2


def test_against_grpo_with_a_gradient_probe_and_without(runs):
    pytest.importorskip("trl")
    from estheory.runs.config import GRPORunConfig
    from estheory.training.gradient_probe import gradient_probe
    from estheory.training.grpo import run_grpo

    plain = GRPORunConfig(
        model="tiny-lm", task="reversal", steps=2, lr=1e-4, prompts=4, samples=4, evaluation_prompts=4,
        checkpoint_every=2,
    )  # fmt: skip
    run_es(replace(CONFIG, permute_rewards=True), runs / "permuted")

    def found(es, grpo):
        pairs = evidence_of_runs([runs / es, runs / grpo]).pairs
        return {(str(p.quantity), m.where.partition(", ")[2]) for p, m in pairs if "|" in m.where}

    for name, config in (("bare", plain), ("probed", replace(plain, gradient_probe=2))):
        run_grpo(config, runs / name, before_first_step=gradient_probe)
    walks = ("norm_ratio", UNRELATED)
    assert found("a", "bare") == {walks, ("es_grpo_cosine_bound", COMMON)}
    assert found("a", "probed") == {walks, ("es_grpo_cosine", COMMON), ("norm_ratio", COMMON)}
    told = {
        (str(p.quantity), m.where.partition(", ")[2]): p
        for p, m in evidence_of_runs([runs / "a", runs / "probed"]).pairs
    }
    ratio, norm = told["norm_ratio", COMMON], told["grpo_displacement_norm", PROBED]
    assert ratio.systematic == norm.systematic > 0  # what is not known of GRPO's norm is not known of the ratio
    assert ratio.law.std / ratio.law.mean > norm.law.std / norm.law.mean > 0
    assert {walks, ("es_grpo_cosine", UNRELATED)} <= found("permuted", "bare")
    assert found("c", "bare") == {walks, ("es_grpo_cosine", UNRELATED)}  # another task


def test_probes_of_another_run_are_named(estheory, runs, tmp_path):
    for file in (runs / "a").iterdir():
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    own = {"task": "reversal", "sigma": 0.015, "steps": 3, "model": "tiny-lm", "dtype": "float32"}
    others = {"task": "addition", "sigma": 0.02, "steps": 4, "model": "smollm2-135m", "dtype": "bfloat16"}
    for name, other in others.items():
        told = own | {name: other}
        content = {key: told[key] for key in ("steps", "model", "dtype")}
        content |= {"fisher": [], "reward": {"task": told["task"], "sigma": told["sigma"]}}
        (tmp_path / "probes.json").write_text(json.dumps(content))
        result = estheory("validate", tmp_path)
        assert (result.code, result.out) == (2, "")
        assert f"probes.json is of {name} {other}, the run has {own[name]}" in result.err.replace("\n", " ")


def test_kl_is_judged_with_what_was_probed_along_the_signal(estheory, runs, tmp_path):
    for file in (runs / "a").iterdir():
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    fisher = {
        "task": "reversal",
        "scale": "walk",
        "trace": 100.0,
        "trace_stderr": 10.0,
        "probe": {"samples": [1.0] * 8},
    }
    content = {"steps": 3, "fisher": [fisher], "signal": None}

    def rows():
        (tmp_path / "probes.json").write_text(json.dumps(content))
        verdicts = estheory("validate", tmp_path, "--json").json()["verdicts"]
        return {row["where"]: row["predicted"] for row in verdicts if row["quantity"] == "kl_drift"}

    [(_, walk)] = rows().items()
    content["signal"] = {"tasks": [{"task": "reversal", "curvature": 50.0, "curvature_stderr": 5.0}]}
    both = rows()["reversal, walk and coherent part"]
    assert both["mean"] > walk["mean"]
    assert both["label"] == "small-step"
