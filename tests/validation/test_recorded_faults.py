"""Small wrong ES implementations log what they did; `validate` names what is wrong, and nothing of a right one."""

from __future__ import annotations

import json

import numpy as np
import pytest

from estheory.cli.app import main
from tests.variants import variants

DIM, SIGMA, ALPHA, N, STEPS = 600, 0.02, 0.01, 8, 12


def zscore(r, ddof=0):
    return (r - r.mean()) / r.std(ddof=ddof)


def ranks(r):
    """Ties share their mean rank."""
    below = (r[:, None] > r).sum(axis=1)
    return (below + ((r[:, None] == r).sum(axis=1) - 1) / 2) / (len(r) - 1) - 0.5


def ordinal(r):
    return r.argsort(kind="stable").argsort(kind="stable") / (len(r) - 1) - 0.5


def run(
    file,
    seed=0,
    *,
    population=N,
    shape=zscore,
    told="zscore",
    mirrored=None,
    seeds="new",
    success=False,
    slope=0.2,
    **head,
):
    """ES on a linear reward with noise, every coordinate moved; its log, as any code could write it.

    ``mirrored`` is what the code does; ``antithetic=True`` among the hyper-parameters what it says.
    """
    mirrored = head.get("antithetic", False) if mirrored is None else mirrored
    rng, gradient = np.random.default_rng([seed, 1]), np.zeros(DIM)
    gradient[0] = slope
    theta, first = np.zeros(DIM), rng.integers(2**31, size=population)
    rows = [{"sigma": SIGMA, "alpha": ALPHA, "population": population, "dim": DIM, "shaping": told, **head}]
    for step in range(1, STEPS + 1):
        drawn = {
            "new": rng.integers(2**31, size=population),
            "the same": first,
            "few": rng.integers(4, size=population),
            "high": (rng.integers(2**29) << 32) + np.arange(population) * (1 << 32),
        }[seeds]
        drawn = np.repeat(drawn[::2], 2) if mirrored else drawn
        low = drawn & 0xFFFFFFFF  # what torch's generator takes
        noise = np.array([np.random.default_rng(int(s)).standard_normal(DIM) for s in low])
        noise = noise * np.resize([1.0, -1.0], population)[:, None] if mirrored else noise
        values = (theta + SIGMA * noise) @ gradient
        chance = 1 / (1 + np.exp(-values))
        draw = rng.binomial(5, chance) / 5 if success else values + 0.05 * rng.standard_normal(population)
        z = shape(draw) if draw.std() > 0 else np.zeros(population)
        theta = theta + ALPHA / population * z @ noise
        row = {"rewards": draw.tolist(), "coefficients": z.tolist(), "seeds": drawn.tolist()}
        rows.append({"step": step, **row, "norm": float(np.linalg.norm(theta))})
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def found(file, capsys):
    code = main(["validate", str(file), "--json"])
    out, err = capsys.readouterr()
    assert code in (0, 3, 4), err
    document = json.loads(out)
    causes = [c["name"] for e in document["explanations"] for c in e["candidates"] if c["fits"]]
    return code, document["findings"], causes


WRONG = {
    "the sign is turned": {"shape": lambda r: -zscore(r)},
    "sample standard deviation": {"shape": lambda r: zscore(r, ddof=1)},
    "not divided by their": {"shape": lambda r: r - r.mean()},
    "not centred": {"shape": lambda r: r / r.std()},
    "centred ranks stand for": {"shape": ranks},
    "z-scores stand for ranks": {"told": "centered-rank"},
    "ranks are not centred": {"told": "centered-rank", "shape": lambda r: ranks(r) + 0.5},
    "equal rewards are ranked in the order": {"told": "centered-rank", "shape": ordinal, "success": True},
    "one argsort": {"told": "centered-rank", "shape": lambda r: r.argsort() / (len(r) - 1) - 0.5},
    "member before": {"shape": lambda r: np.roll(zscore(r), -1)},
    "members have the seed of a member of an earlier step": {"seeds": "the same"},
    "members share a seed, and": {"seeds": "few"},
    "low 32 bits": {"seeds": "high"},
    "each seed stands twice": {"mirrored": True},
    "they are not mirrored": {"antithetic": True, "mirrored": False},
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_implementation_is_named_from_its_log(tmp_path, capsys, name):
    _, findings, _ = found(run(tmp_path / "log.jsonl", **WRONG[name]), capsys)
    assert any(name in finding["text"] for finding in findings), findings
    assert all(finding["steps"] for finding in findings)


RIGHT = {
    "z-scores": {},
    "0/1 rewards": {"success": True},
    "ranks": {"told": "centered-rank", "shape": ranks},
    "ranks of 0/1 rewards": {"told": "centered-rank", "shape": ranks, "success": True},
    "pairs": {"antithetic": True},
    "two members": {"population": 2},
    "thirty members": {"population": 30},
    "a shaping that is not told": {"told": None, "shape": ranks},
}


@pytest.mark.parametrize("name", variants(RIGHT, fast={"ranks of 0/1 rewards", "pairs", "a shaping that is not told"}))
def test_a_right_implementation_raises_no_alarm(tmp_path, capsys, name):
    """25 runs of each kind, 200 in all, every one stepped; a norm 4 standard errors off comes once in 16 000.

    Only explanations and findings are alarms: a log's norms are refuted at their own level.
    """
    for seed in range(25):
        _, findings, causes = found(run(tmp_path / "log.jsonl", seed, **RIGHT[name]), capsys)
        assert (findings, causes) == ([], [])


def test_a_strong_signal_in_few_dimensions_is_named_too(tmp_path, capsys):
    """A law on flat directions is then refuted, and rightly: the signal is among what explains it."""
    code, findings, causes = found(run(tmp_path / "log.jsonl", slope=20.0, population=30), capsys)
    assert (code, findings) == (3, [])
    assert any("signal of the rewards" in cause for cause in causes)


def half(values):
    """bfloat16, by cutting the upper half of float32 off."""
    return ((np.float32(values).view(np.uint32) + 0x8000) & 0xFFFF0000).view(np.float32).astype(float)


ROUNDINGS = {
    "rewards to three digits": {"rewards": lambda r: np.round(r, 3)},
    "coefficients to two digits": {"coefficients": lambda z: np.round(z, 2)},
    "coefficients in bfloat16": {"coefficients": half},
}


@pytest.mark.parametrize("name", variants(ROUNDINGS, fast={"rewards to three digits", "coefficients in bfloat16"}))
def test_what_a_log_rounded_raises_no_alarm_and_hides_no_fault(tmp_path, capsys, name):
    for seed in range(10):
        for factor, words in ((1.0, ""), (-1.0, "sign")):
            file = run(tmp_path / "log.jsonl", seed, shape=lambda r, f=factor: f * zscore(r))
            rows = [json.loads(line) for line in file.read_text().splitlines()]
            for row in rows[1:]:
                row |= {key: how(np.array(row[key])).tolist() for key, how in ROUNDINGS[name].items()}
            file.write_text("".join(json.dumps(row) + "\n" for row in rows))
            _, findings, _ = found(file, capsys)
            assert bool(findings) == bool(words)
            assert all(words in finding["text"] for finding in findings)
