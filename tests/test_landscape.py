"""Landscapes: what they compute, where they come from, and what they refuse."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as h

from estheory.errors import ConfigError, DataError
from estheory.landscape import Landscape
from estheory.theory.curved import spectra as landscapes


def two_rows(**changes):
    given = {"dim": 10, "eigenvalue": [4, 1], "multiplicity": [2, 3], "offset": [0.5, 0.1], "reward_std": 0.3}
    return Landscape(**(given | changes))


def test_moments_by_hand():
    where = two_rows()
    assert where.trace == 2 * 4 + 3 * 1
    assert where.square_trace == 2 * 16 + 3
    assert where.gradient_norm**2 == pytest.approx(2 * 4 + 3 * 0.01)
    assert where.gradient_curvature == pytest.approx(2 * 4 * 4 + 3 * 0.01)
    assert where.gap == pytest.approx(0.5 * (2 * 4 * 0.25 + 3 * 0.01))
    assert where.member_std(0.1) ** 2 == pytest.approx(0.01 * 8.03 + 0.5e-4 * 35 + 0.09)
    signal = where.signal(0.1)
    assert signal.reliability == pytest.approx(0.01 * 8.03 / where.member_std(0.1) ** 2)
    assert signal.member_std == where.member_std(0.1)


def test_arrays_are_frozen_copies():
    lam = np.array([4.0, 1.0])
    where = two_rows(eigenvalue=lam)
    lam[0] = 7
    assert where.eigenvalue[0] == 4
    with pytest.raises(ValueError, match="read-only"):
        where.eigenvalue[0] = 7


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"eigenvalue": [4, -0.5]}, r"row 2: eigenvalue -0.5"),
        ({"eigenvalue": [float("nan"), 1]}, r"row 1: eigenvalue nan"),
        ({"multiplicity": [2, -3]}, r"row 2: multiplicity -3"),
        ({"multiplicity": [2.5, 3]}, r"row 1: multiplicity 2.5"),
        ({"offset": [0.5, float("inf")]}, r"row 2: offset inf"),
        ({"offset": [-0.5, 0.1]}, r"row 1: offset -0.5"),
        ({"multiplicity": [8, 3]}, r"sum to 11, more than dim 10"),
        ({"offset": [1.0]}, r"2, 2 and 1"),
        ({"eigenvalue": [], "multiplicity": [], "offset": []}, r"0, 0 and 0"),
        ({"eigenvalue": [[4, 1]]}, r"one value per row"),
        ({"eigenvalue": ["a", "b"]}, r"does not hold numbers"),
        ({"reward_std": -1.0}, r"reward-std must be a finite number >= 0, got -1"),
        ({"fisher_trace": float("nan")}, r"fisher-trace"),
        ({"off_task_trace": float("inf")}, r"off-task-trace. must be a finite number >= 0, got inf"),
        ({"dim": 0}, r"dim"),
    ],
)
def test_bad_values_are_named(changes, message):
    with pytest.raises(ConfigError, match=message):
        two_rows(**changes)


def test_off_task_trace_may_be_negative():
    assert two_rows(off_task_trace=-3.0).off_task_trace == -3.0


CSV = "eigenvalue,multiplicity,offset\n10,5,0.3\n0.05,400,0\n"
TOML = """
dim = 4e9
reward_std = 0.02
fisher_trace = 5000
[[spectrum]]
eigenvalue = 10
multiplicity = 5
offset = 0.3
[[spectrum]]
eigenvalue = 0.05
multiplicity = 400
offset = 0
"""


def test_csv_and_toml_agree(tmp_path):
    (tmp_path / "a.csv").write_text("\ufeff" + CSV + "\n", encoding="utf-8")  # as spreadsheets write it
    (tmp_path / "a.toml").write_text(TOML)
    a = landscapes.read_landscape(tmp_path / "a.csv", dim=4_000_000_000, reward_std=0.02)
    b = landscapes.read_landscape(tmp_path / "a.toml", reward_std=None)
    assert (a.dim, a.reward_std, a.trace, a.gap) == (b.dim, b.reward_std, b.trace, b.gap) == (4 * 10**9, 0.02, 70, 2.25)
    assert b.fisher_trace == 5000
    assert landscapes.read_landscape(tmp_path / "a.toml", reward_std=0.5).reward_std == 0.5


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "eigenvalue,count,offset\n1,2,3\n", r"header 'eigenvalue,count,offset'"),
        ("a.csv", "", r"is empty"),
        ("a.csv", "eigenvalue,multiplicity,offset\n", r"no spectrum row"),
        ("a.csv", CSV + "1,2\n", r"row 3 has 2 values"),
        ("a.csv", CSV + "1,two,0\n", r"row 3: multiplicity 'two' is not a number"),
        ("a.csv", CSV + "-1,2,0\n", r"row 3: eigenvalue -1 is not allowed"),
        ("a.csv", CSV + "1,2,nan\n", r"row 3: offset nan is not allowed"),
        ("a.toml", "dim = 10\n", r"no \[\[spectrum\]\] rows"),
        ("a.toml", TOML.replace("fisher_trace", "fisher"), r"unknown key 'fisher'"),
        ("a.toml", TOML.replace("offset = 0.3", "shift = 0.3"), r"row 1 has eigenvalue, multiplicity, shift"),
        ("a.toml", TOML.replace("dim = 4e9", "dim = true"), r"dim 'True' is not a number"),
        ("a.toml", TOML.replace("dim = 4e9", ""), r"dim is unknown"),
        ("a.toml", "dim =", r"a.toml: "),
        ("a.csv", None, r"cannot read the spectrum"),
    ],
)
def test_bad_files_are_one_clear_error(tmp_path, name, text, message):
    if text is not None:
        (tmp_path / name).write_text(text)
    options = {} if name.endswith("toml") else {"dim": 1000}
    with pytest.raises(DataError, match=message) as caught:
        landscapes.read_landscape(tmp_path / name, **options)
    assert "\n" not in str(caught.value)


def test_binary_file_is_refused(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(DataError, match="not text"):
        landscapes.read_landscape(tmp_path / "a.csv", dim=10)


def test_presets():
    where = landscapes.two_scale()
    assert (where.trace, where.gap, where.dim, where.reward_std) == (70, 2.25, 1005, 0.02)
    block = landscapes.flat_plus_isotropic(dim=10**12, directions=10**9, eigenvalue=2.0, offset=0.1)
    assert block.trace == 2e9
    assert block.eigenvalue.size == 1


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0])
def test_power_law_keeps_its_traces(exponent):
    r = 100_000
    where = landscapes.power_law(dim=10**12, directions=r, largest=3.0, exponent=exponent, offset=0.1)
    ranks = np.arange(1.0, r + 1)
    assert np.sum(where.multiplicity) == r
    assert where.trace == pytest.approx(3 * np.sum(ranks**-exponent), rel=1e-5)
    assert where.square_trace == pytest.approx(9 * np.sum(ranks ** (-2 * exponent)), rel=4e-4 * exponent**2)
    assert where.eigenvalue.size < 200


@given(exponent=h.floats(0.1, 3), directions=h.integers(1, 10**12))
def test_power_law_is_small_and_decreasing(exponent, directions):
    where = landscapes.power_law(dim=10**12, directions=directions, largest=1.0, exponent=exponent, offset=0.0)
    assert where.eigenvalue.size < 500
    assert np.sum(where.multiplicity) == directions
    assert np.all(np.diff(where.eigenvalue) < 0)


def test_block_of_probes_has_what_was_probed():
    where = landscapes.from_probes(dim=10**9, trace=50.0, gradient_norm=0.7, reward_std=0.1, square_trace=25.0)
    assert where.multiplicity[0] == 100
    assert where.trace == pytest.approx(50)
    assert where.square_trace == pytest.approx(25)
    assert where.gradient_norm == pytest.approx(0.7)
    by_count = landscapes.from_probes(dim=10**9, trace=50.0, gradient_norm=0.7, reward_std=0.1, directions=100)
    assert math.isclose(by_count.gradient_curvature, where.gradient_curvature)
    with pytest.raises(ConfigError, match="one of the two"):
        landscapes.from_probes(dim=10, trace=1.0, gradient_norm=1.0, reward_std=0.0)
