"""Small wrong implementations of ES, run for real, are named by `estheory validate`; a right one raises nothing."""

import math

import numpy as np
import pytest

from tests.variants import variants

torch = pytest.importorskip("torch")
numpy_files = pytest.importorskip("safetensors.numpy")
torch_files = pytest.importorskip("safetensors.torch")

SIGMA, ALPHA, N, STEPS = 0.015, 0.0075, 30, 20
SHAPES = {"embed.weight": (40, 50), "up.weight": (60, 50), "down.weight": (50, 60), "norm.weight": (50,)}
OPTIONS = ["--sigma", SIGMA, "--alpha", ALPHA, "--population", N]

FEW = 4
"""Members, where the factor of a fault is near 1 with thirty of them."""


def zscore(rewards, ddof=0):
    return (rewards - rewards.mean()) / rewards.std(ddof=ddof)


def step(
    theta, rng, *, shape=zscore, factor=1.0, mirrored=False, sign=True, shared=False, trained=tuple(SHAPES), members=N
):
    """One update: each tensor's noise is drawn from a generator of the member, re-seeded per tensor where shared."""
    rewards, seeds = rng.standard_normal(members), rng.integers(2**62, size=members)
    z = shape(rewards)
    moved = dict.fromkeys(trained, 0.0)
    for member in range(members):
        turned = -1.0 if mirrored and sign and member % 2 else 1.0
        noise = np.random.default_rng(seeds[member - member % 2 if mirrored else member])
        for name in trained:
            if shared:
                noise = np.random.default_rng(seeds[member])
            moved[name] = moved[name] + z[member] * turned * noise.standard_normal(SHAPES[name])
    return {name: value + factor * ALPHA / members * moved.get(name, 0.0) for name, value in theta.items()}


def made(folder, seed=0, steps=STEPS, decay=0.0, kept=(), again=False, **how):
    """Run ES and return base and checkpoints, float32 on disk."""
    rng = np.random.default_rng(seed)
    start = {name: 0.1 * rng.standard_normal(shape) for name, shape in SHAPES.items()}
    theta, files = start, []
    folder.mkdir(exist_ok=True)
    for number in range(1, steps + 1):
        theta = step(theta, np.random.default_rng(seed) if again else rng, **how)
        theta = {name: start[name] + (1 - decay) * (value - start[name]) for name, value in theta.items()}
        if number in (*kept, steps):
            files.append(folder / f"step_{number}.safetensors")
            numpy_files.save_file({name: np.float32(value) for name, value in theta.items()}, files[-1])
    numpy_files.save_file({name: np.float32(value) for name, value in start.items()}, folder / "base.safetensors")
    return [folder / "base.safetensors", *files]


WRONG = {
    "1/N is missing": {"factor": N},
    "the update is applied twice": {"factor": 2},
    "alpha stands for alpha/2": {"factor": 2},
    "1/sigma is too much": {"factor": 1 / SIGMA},
    "a factor sigma is too much": {"factor": SIGMA},
    "1/sigma^2 is too much": {"factor": 1 / SIGMA**2},
    "sigma^2 is too much": {"factor": SIGMA**2},
    "rewards are not divided": {"shape": lambda r: 3.7 * (r - r.mean())},  # no factor of the rule: nothing is named
    "did not move": {"trained": ("up.weight", "down.weight")},
    "one step too few": {"steps": 21},
}


@pytest.mark.parametrize("name", [name for name in WRONG if name != "rewards are not divided"])
def test_a_wrong_implementation_is_named(estheory, tmp_path, name):
    files = made(tmp_path / "run", **WRONG[name])
    if name == "one step too few":
        files = [files[0], files[1].rename(files[1].with_name("step_20.safetensors"))]
    result = estheory("validate", *files, *OPTIONS, "--json")
    document = result.json()
    assert result.code == 3 or name == "one step too few", result.err
    if result.code == 3:
        [explained] = document["explanations"]
        assert any(name in c["name"] and c["fits"] for c in explained["candidates"]), explained
        measured = document["verdicts"][0]["ratio"]
        assert explained["implied"]["alpha"] == pytest.approx(ALPHA * measured, rel=0.5)
        text = estheory("validate", *files, *OPTIONS).out
        assert name in text.replace("\n", " ")
    else:
        assert any(name in fault for fault in document["cannot_be_told"])


def test_a_factor_of_no_known_fault_is_not_forced_on_one(estheory, tmp_path):
    files = made(tmp_path / "run", **WRONG["rewards are not divided"])
    [explained] = estheory("validate", *files, *OPTIONS, "--json").json()["explanations"]
    assert not [c for c in explained["candidates"] if c["fits"]]
    assert explained["implied"]["alpha"] == pytest.approx(3.7 * ALPHA, rel=0.15)  # the spread of rewards enters


def test_a_sample_standard_deviation_is_named_with_enough_entries(estheory, tmp_path):
    """A norm of d = 8050 entries knows its length to 0.8 %; the factor sqrt(29/30) needs many more."""
    rng, dim = np.random.default_rng(0), 400_000
    for name, variance in (("base", 0.0), ("step_20", ALPHA**2 * STEPS / N * (1 - 1 / N))):
        numpy_files.save_file(
            {"w": np.float32(math.sqrt(variance) * rng.standard_normal(dim))}, tmp_path / f"{name}.safetensors"
        )
    files = [tmp_path / "base.safetensors", tmp_path / "step_20.safetensors"]
    [explained] = estheory("validate", *files, *OPTIONS, "--json").json()["explanations"]
    assert explained["candidates"][0]["name"].startswith("the sample standard deviation")


SMALL = {
    "members are mirrored, which the rule does not say": ({"mirrored": True}, []),
    "mirrored members are independent ones": ({}, ["--antithetic"]),
    "the sign of mirrored noise is lost": ({"mirrored": True, "sign": False}, ["--antithetic"]),
    "the sample standard deviation": ({"shape": lambda r: zscore(r, 1)}, []),
}


@pytest.mark.parametrize("name", SMALL)
def test_what_many_members_hide_is_named_with_four(estheory, tmp_path, name):
    how, said = SMALL[name]
    files = made(tmp_path / "run", members=FEW, steps=200, **how)
    result = estheory("validate", *files, *OPTIONS[:-1], FEW, *said, "--json")
    assert result.code == 3
    [explained] = result.json()["explanations"]
    assert any(name in c["name"] and c["fits"] for c in explained["candidates"]), explained


def test_a_head_that_a_code_trains_twice_and_counts_twice(estheory, tmp_path):
    """Each copy of a tied matrix takes the same update: the files hold it once, the code says d of both."""
    base, tuned = made(tmp_path / "run")
    dim = sum(math.prod(shape) for shape in SHAPES.values()) + math.prod(SHAPES["embed.weight"])
    document = estheory("validate", base, tuned, *OPTIONS, "--dim", dim, "--json").json()
    [explained] = document["explanations"]
    assert "embed.weight is counted twice" in explained["candidates"][0]["name"]


def test_updates_that_16_bits_swallow_are_named(estheory, tmp_path):
    """Each member's part is added to bfloat16 weights, and most of it is less than half their spacing."""
    rng, alpha = np.random.default_rng(5), 2e-4
    start = {name: torch.from_numpy(rng.standard_normal(shape)).bfloat16() for name, shape in SHAPES.items()}
    theta = {name: value.clone() for name, value in start.items()}
    for _ in range(STEPS):
        for z in zscore(rng.standard_normal(N)):
            for value in theta.values():
                value += (alpha / N * z * torch.from_numpy(rng.standard_normal(value.shape))).bfloat16()
    torch_files.save_file(start, tmp_path / "base.safetensors")
    torch_files.save_file(theta, tmp_path / "step_20.safetensors")
    files = [tmp_path / "base.safetensors", tmp_path / "step_20.safetensors"]
    options = ["--sigma", SIGMA, "--alpha", alpha, "--population", N]
    [explained] = estheory("validate", *files, *options, "--json").json()["explanations"]
    swallowed = [c["name"] for c in explained["candidates"] if c["fits"] and "swallows" in c["name"]]
    assert any("--update-path sequential" in name for name in swallowed), explained


def test_steps_that_are_counted_twice_are_named(estheory, tmp_path):
    base, tuned = made(tmp_path / "run", steps=STEPS // 2)
    [explained] = estheory("validate", base, tuned, *OPTIONS, "--steps", STEPS, "--json").json()["explanations"]
    assert explained["candidates"][0]["name"] == "steps are counted twice"


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"again": True}, "every step uses the same noise"),
        ({"decay": 0.1}, "the later one has forgotten"),
    ],
)
def test_a_refuted_cosine_is_explained(estheory, tmp_path, how, words):
    files = made(tmp_path / "run", kept=(5,), **how)
    explained = estheory("validate", *files, *OPTIONS, "--json").json()["explanations"]
    [cosine] = [one for one in explained if one["quantity"] == "checkpoint_cosine"]
    assert words in cosine["candidates"][0]["name"]


def test_frozen_tensors_and_shared_noise_are_found_with_their_names(estheory, tmp_path):
    frozen = estheory("validate", *made(tmp_path / "a", trained=("up.weight",)), *OPTIONS, "--json").json()["findings"]
    assert [(f["kind"], set(f["tensors"])) for f in frozen] == [
        ("frozen tensors", {"embed.weight", "down.weight", "norm.weight"})
    ]
    said = estheory("validate", *made(tmp_path / "a", trained=("up.weight",)), *OPTIONS, "--trainable", "regex:up")
    assert (said.code, "did not move" in said.out) == (0, False)
    document = estheory("validate", *made(tmp_path / "b", shared=True), *OPTIONS, "--json").json()
    assert [(f["kind"], f["tensors"]) for f in document["findings"]] == [("shared noise", ["down.weight", "up.weight"])]


def test_a_pull_is_told_from_a_smaller_step_by_two_checkpoints(estheory, tmp_path):
    files = made(tmp_path / "pulled", steps=60, decay=0.05, kept=(10,))
    document = estheory("validate", *files, *OPTIONS, "--json").json()
    pulls = [e["implied"]["anchor_l2"] for e in document["explanations"] if e["quantity"] == "displacement_norm"]
    assert pulls == pytest.approx([0.05] * len(pulls), abs=0.015)
    assert "agree on one pull" in estheory("validate", *files, *OPTIONS).out


def test_steps_are_read_from_names_and_never_taken_for_one(estheory, tmp_path):
    base, tuned = made(tmp_path / "run")
    assert estheory("validate", base, tuned, *OPTIONS, "--json").json()["verdicts"][0]["step"] == STEPS
    unnamed = tuned.rename(tuned.with_name("tuned.safetensors"))
    result = estheory("validate", base, unnamed, *OPTIONS)
    assert (result.code, result.out) == (2, "")
    assert "--steps" in result.err
    assert estheory("validate", base, unnamed, *OPTIONS, "--steps", STEPS).code == 0


def test_what_no_norm_counts_is_listed_beside_the_verdicts(estheory, tmp_path):
    base, tuned = made(tmp_path / "run")
    numpy_files.save_file(
        numpy_files.load_file(tuned) | {"rope.inv_freq": np.float32(1e4 ** -(np.arange(8) / 8))}, tuned
    )
    document = estheory("validate", base, tuned, *OPTIONS, "--json").json()
    assert [(row["name"], row["kind"], row["entries"]) for row in document["left_out"]] == [
        ("rope.inv_freq", "buffer", 8)
    ]
    assert document["renamed"] == []
    assert "rope.inv_freq" in estheory("validate", base, tuned, *OPTIONS).out


RIGHT = {"plain": ({}, []), "pairs": ({"mirrored": True}, ["--antithetic"])}


@pytest.mark.parametrize("members", variants([4, 8, 30], fast={8}))
@pytest.mark.parametrize("name", RIGHT)
def test_a_right_run_raises_no_alarm(estheory, tmp_path, name, members):
    """Stepped runs, 40 of each kind and size of population but 10 of thirty members: 180 in all.

    A false candidate needs a norm 4 standard errors off (6e-5 each), a false group a cosine of 6 standard errors: a
    chance of about 1.2 % over all of them, at fixed seeds.
    """
    how, said = RIGHT[name]
    alarms = 0
    for seed in range(40 if members < N else 10):
        files = made(tmp_path / f"run{seed}", seed, steps=STEPS // 2, members=members, **how)
        options = [*OPTIONS[:-1], members, *said, "--json"]
        alarms += alarmed(estheory("validate", *files, *options).json())
    assert alarms == 0


def alarmed(document):
    return bool(document["findings"]) or any(c["fits"] for e in document["explanations"] for c in e["candidates"])


@pytest.mark.slow
def test_a_walk_drawn_from_its_law_raises_no_alarm(estheory, tmp_path):
    """The rule's own law of norms: a walk is normal given its coefficients, drawn at once; 200 runs."""
    alarms = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        start = {name: np.float32(0.1 * rng.standard_normal(shape)) for name, shape in SHAPES.items()}
        std = ALPHA * math.sqrt(STEPS / N)
        moved = {name: np.float32(v + std * rng.standard_normal(v.shape)) for name, v in start.items()}
        numpy_files.save_file(start, tmp_path / "base.safetensors")
        numpy_files.save_file(moved, tmp_path / "step_20.safetensors")
        files = [tmp_path / "base.safetensors", tmp_path / "step_20.safetensors"]
        alarms += alarmed(estheory("validate", *files, *OPTIONS, "--json").json())
    assert alarms == 0
