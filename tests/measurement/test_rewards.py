"""Rewards of members on prompts: one matrix in every format, and what is refused by row and column."""

import json

import numpy as np
import pytest

from estheory.errors import DataError
from estheory.measurement.reward_files import read_rewards

REWARDS = (np.random.default_rng(0).random((6, 5)) < 0.5).astype(float)
CENTRE = np.array([1.0, 0.0, 1.0, 1.0, 0.0])
PAIRS = "member,prompt,reward,pair,sign,sigma,step\n"


def long_rows(*, paired=False):
    for i, row in enumerate(REWARDS):
        for b, reward in enumerate(row):
            record = {"member": i, "prompt": f"p{b}", "reward": reward, "sigma": 1e-3, "step": 4}
            yield record | ({"pair": i // 2, "sign": (-1) ** i} if paired else {})


def write(path, kind):
    file = path / f"rewards.{kind.split(':')[0]}"
    records = list(long_rows(paired=kind.endswith(":pairs")))
    if kind == "json":
        file.write_text(json.dumps(REWARDS.tolist()))
    elif kind == "json:object":
        document = {"rewards": REWARDS.tolist(), "centre": CENTRE.tolist(), "sigma": 1e-3, "alpha": 5e-4}
        file.write_text(json.dumps(document | {"mirrored": True}))
    elif kind == "npy":
        np.save(file, REWARDS)
    elif kind == "npz":
        np.savez(file, rewards=REWARDS, centre=CENTRE, sigma=1e-3, mirrored=True)
    elif kind == "csv":
        np.savetxt(file, REWARDS, delimiter=",")
    elif kind.startswith("csv"):
        names = list(records[0])
        file.write_text("\n".join([",".join(names), *(",".join(str(r[n]) for n in names) for r in records)]))
    elif kind.startswith("jsonl"):
        if kind == "jsonl:log":
            lines = [{"sigma": 1e-3, "alpha": 5e-4}, {"step": 4, "prompt_rewards": REWARDS.tolist()}]
        else:
            lines = records
        file.write_text("\n".join(map(json.dumps, lines)))
    elif kind.startswith("parquet"):
        parquet = pytest.importorskip("pyarrow.parquet")
        table = pytest.importorskip("pyarrow").Table.from_pylist(records)
        parquet.write_table(table, file)
    return file


@pytest.mark.parametrize(
    "kind",
    [
        *("json", "json:object", "npy", "npz", "csv", "csv:long", "csv:pairs"),
        *("jsonl:long", "jsonl:pairs", "jsonl:log", "parquet:long", "parquet:pairs"),
    ],
)
def test_every_format_holds_the_same_matrix(tmp_path, kind):
    [found] = read_rewards(write(tmp_path, kind), sigma=1e-3).iterations
    assert np.array_equal(found.rewards, REWARDS)
    assert found.sigma == 1e-3
    assert found.mirrored == (kind.endswith(":pairs") or kind in ("json:object", "npz"))
    assert (found.centre is not None) == (kind in ("json:object", "npz"))
    assert found.step == (4 if kind.split(":")[0] in ("jsonl", "parquet") or kind.startswith("csv:") else None)


def test_halves_are_put_side_by_side_and_a_file_holds_the_centre(tmp_path):
    np.save(tmp_path / "rewards.npy", REWARDS)
    (tmp_path / "centre.json").write_text(json.dumps(CENTRE.tolist()))
    [found] = read_rewards(
        tmp_path / "rewards.npy", sigma=1e-3, mirrored="halves", centre=tmp_path / "centre.json"
    ).iterations
    assert np.array_equal(found.rewards, REWARDS[[0, 3, 1, 4, 2, 5]])
    assert np.array_equal(found.centre, CENTRE)


def test_pairs_in_any_order_the_centre_and_several_scales_in_long_form(tmp_path):
    rows = [
        f"{i},{b},{i * 10 + b},{i // 2},{'+-'[i % 2]},{s},1" for s in (1e-3, 2e-3) for i in (3, 0, 2, 1) for b in (0, 1)
    ]
    rows += [f"centre,{b},{b},,,{s},1" for s in (1e-3, 2e-3) for b in (0, 1)]
    (tmp_path / "r.csv").write_text(PAIRS + "\n".join(rows))
    found = read_rewards(tmp_path / "r.csv").iterations
    assert [i.sigma for i in found] == [1e-3, 2e-3]
    assert found[0].rewards[:, 0].tolist() == [20, 30, 0, 10]  # pair 1 comes first in the file
    assert found[0].centre.tolist() == [0, 1]


def test_a_run_directory(tmp_path):
    (tmp_path / "config.json").write_text('{"sigma": 1e-3, "alpha": 5e-4, "mirrored": true}')
    row = {"step": 1, "prompt_rewards": REWARDS.tolist(), "centre_rewards": CENTRE.tolist()}
    (tmp_path / "log.jsonl").write_text(json.dumps(row) + "\n" + json.dumps(row | {"step": 2}) + "\n")
    found = read_rewards(tmp_path)
    assert [i.step for i in found.iterations] == [1, 2]
    assert found.alpha == 5e-4
    assert found.iterations[0].mirrored


def edited(row, column, value):
    rows = REWARDS.tolist()
    rows[row][column] = value
    return rows


REFUSED = {
    "nan": (edited(1, 2, float("nan")), "row 2, column 3"),
    "text": (edited(1, 2, "x"), "row 2, column 3"),
    "null": (edited(1, 2, None), "row 2, column 3"),
    "one member": (REWARDS[:1].tolist(), "1 row"),
    "one prompt": (REWARDS[:, :1].tolist(), "1 column"),
    "all equal": (np.ones((4, 3)).tolist(), "row 1, column 1"),
    "ragged": ([*REWARDS.tolist(), [1.0]], "row 7 has 1 columns"),
    "another scale": ([*REWARDS.tolist(), [10.0, 0.0, 10.0, 10.0, 0.0]], "row 7 is on another scale"),
    "centre": ({"rewards": REWARDS.tolist(), "centre": [1, 0]}, "the centre has 2 rewards for 5 columns"),
    "centre nan": ({"rewards": REWARDS.tolist(), "centre": [1, 0, None, 1, 0]}, "column 3"),
    "odd": ({"rewards": REWARDS[:5].tolist(), "mirrored": True}, "row 5 has no partner"),
    "mirrored": ({"rewards": REWARDS.tolist(), "mirrored": "yes"}, "mirrored"),
    "no rewards": ({"centre": [1]}, "rewards"),
    "not a matrix": ([1, 2, 3], "matrix"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_by_row_and_column(tmp_path, name):
    document, said = REFUSED[name]
    (tmp_path / "r.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match=said):
        read_rewards(tmp_path / "r.json", sigma=1e-3)


def test_a_scale_of_its_own_among_many_values(tmp_path):
    rewards = np.random.default_rng(1).standard_normal((8, 20))
    rewards[5] *= 100
    np.save(tmp_path / "r.npy", rewards)
    with pytest.raises(DataError, match="row 6 is on another scale"):
        read_rewards(tmp_path / "r.npy", sigma=1e-3)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("member,prompt,reward\n0,0,1\n0,1,1\n1,0,0\n", "member 1 .row. has no reward on prompt 1"),
        ("member,prompt,reward\n0,0,1\n0,0,1\n", "row 3 is a second reward"),
        ("member,prompt,reward\n0,0,x\n", "row 2, column reward"),
        ("member,reward\n0,1\n", "lacks prompt"),
        (PAIRS + "0,0,1,0,1,,\n0,1,0,0,1,,\n1,0,1,1,1,,\n1,1,0,1,1,,\n", "pair 0 has one member"),
        (PAIRS + "0,0,1,0,?,,\n", "column sign"),
        ("", "empty"),
    ],
)
def test_what_is_refused_in_long_form(tmp_path, text, said):
    (tmp_path / "r.csv").write_text(text)
    with pytest.raises(DataError, match=said):
        read_rewards(tmp_path / "r.csv", sigma=1e-3)


def test_sigma_is_asked_for(tmp_path):
    np.save(tmp_path / "r.npy", REWARDS)
    with pytest.raises(DataError, match="does not say sigma"):
        read_rewards(tmp_path / "r.npy")
    with pytest.raises(DataError, match="check the path"):
        read_rewards(tmp_path / "none.npy")
    (tmp_path / "r.npz").write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(DataError):
        read_rewards(tmp_path / "r.npz")


def test_two_scales_that_differ_are_refused(tmp_path):
    file = write(tmp_path, "json:object")
    with pytest.raises(DataError, match=r"says sigma 0\.001, and --sigma 1: leave out --sigma"):
        read_rewards(file, sigma=1.0)
    assert read_rewards(file).iterations[0].sigma == read_rewards(file, sigma=1e-3).iterations[0].sigma == 1e-3
