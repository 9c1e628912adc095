"""Readers of real data sets, and the tasks made of them, on small files of the same schemas."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from estheory.errors import ConfigError, DataError, MissingDependencyError
from estheory.tasks import data_of, get_task
from estheory.tasks.answers import chosen_option, final_answer, same_answer, yes_or_no
from estheory.tasks.data import DataTask
from estheory.tasks.data_files import data_hashes, read_file, records_of
from estheory.tasks.record import solution_of
from estheory.tasks.schemas import read_records
from estheory.tasks.task import Example


def gsm8k(k: int) -> dict[str, Any]:
    return {
        "question": f"Ann has {k} eggs and buys 2.",
        "answer": f"She has {k}+2 = <<{k}+2={k + 2}>>{k + 2}.\n#### {k + 2}",
    }


def verl_gsm8k(k: int) -> dict[str, Any]:
    own = gsm8k(k)
    return {
        "data_source": "openai/gsm8k:main",
        "prompt": [{"role": "user", "content": f"Solve: {own['question']}"}],
        "reward_model": {"ground_truth": str(k + 2), "style": "rule"},
        "extra_info": own,
    }


def verl_countdown(k: int) -> dict[str, Any]:
    return {
        "data_source": "countdown",
        "prompt": [
            {"role": "user", "content": f"Reach it with 2, 3, {k}."},
            {"role": "assistant", "content": "<think>"},
        ],
        "reward_model": {"ground_truth": f"(({k} - 2) / 3)", "style": "rule"},
        "extra_info": {"numbers": [2, 3, k], "solution": f"(({k} - 2) / 3)", "target": str((k - 2) / 3)},
    }


def arc(k: int) -> dict[str, Any]:
    choices = {"text": [f"{k} m", f"{k} s", "none"], "label": ["1", "2", "3"]}
    return {"question": f"Which is length {k}?", "choices": choices, "answerKey": "1"}


SCHEMAS = {
    "gsm8k": gsm8k,
    "verl-gsm8k": verl_gsm8k,
    "verl-countdown": verl_countdown,
    "countdown": lambda k: {"nums": [k, 2, 3, 4], "target": (k + 2) * 3 - 4},
    "tinyzero": lambda k: {**verl_countdown(k), "reward_model": {"ground_truth": {"numbers": [k, 3], "target": k * 3}}}
    | {"extra_info": {}},
    "arc": arc,
    "flat": lambda k: {"question": f"Why? {k}", "option_labels": ["A", "B"], "options": [str(k), "no"], "answer": "B"},
    "mmlu": lambda k: {"question": f"Which? {k}", "choices": ["x", "y", "z", "w"], "answer": k % 4},
    "piqa": lambda k: {"goal": f"Open {k}", "sol1": "push", "sol2": "pull", "label": k % 2},
    "sciknoweval": lambda k: {**arc(k), "type": "mcq-4-choices", "domain": "Chemistry", "answer": ""},
    "boolq": lambda k: {"question": f"is {k} odd", "passage": "Numbers are odd\nor even.", "answer": k % 2 == 1},
    "verl-letters": lambda k: {
        "data_source": "sciknoweval",
        "prompt": [{"role": "user", "content": f"Which of {k}?\nA. x\nB. y\nC. z\nD. w\nE. v"}],
        "reward_model": {"ground_truth": "BE"[k % 2]},
    },
}  # fmt: skip


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, make in SCHEMAS.items():
        write(tmp_path / f"{name}.jsonl", [make(k) for k in range(5, 65)])
    return tmp_path


@pytest.mark.parametrize("name", SCHEMAS)
@pytest.mark.parametrize("form", ["auto", "few-shot", "chat"])
def test_references_are_right_and_splits_stay_apart(folder: Path, name: str, form: Any) -> None:
    task = get_task(name, data=str(folder), form=form, render=lambda messages: "\n".join(text for _, text in messages))
    assert isinstance(task, DataTask)
    train, test = task.examples("train", 20, 0), task.examples("test", len(task.test), 0)
    for example in (*train, *test):
        assert task.score(example, example.reference) == 1.0 == task.partial_score(example, example.reference)
        assert task.score(example, "nonsense") == 0.0
        assert not example.options or example.reference in example.options
    assert not {record.key for record in task.train} & {record.key for record in task.test}
    assert not {e.prompt for e in task.examples("train", len(task._asked_in_training), 1)} & {e.prompt for e in test}
    assert len(task.train) + len(task.test) == 60
    assert len(task.test) > 5
    assert train == task.examples("train", 20, 0) != task.examples("train", 20, 1)
    asked = {example.record.key for example in task.examples("train", len(task._asked_in_training), 0)}  # type: ignore[attr-defined]
    assert not asked & {shot.key for shot in task._shots}
    if form == "few-shot":
        assert train[0].prompt.startswith(task.prefix)
        assert task.prefix.count("Answer:") == 4
        assert "<<" not in task.prefix


def test_parquet_reads_as_jsonl(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    for name in ("verl-countdown", "arc", "boolq", "gsm8k"):
        rows = [SCHEMAS[name](k) for k in range(5, 15)]
        write(tmp_path / f"{name}.jsonl", rows)
        parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / f"{name}.parquet")
        one, other = (read_file(tmp_path / f"{name}.{ending}") for ending in ("jsonl", "parquet"))
        assert [r.key for r in one] == [r.key for r in other]
        assert [(r.answer, r.options, r.messages) for r in one] == [(r.answer, r.options, r.messages) for r in other]
    damaged = (tmp_path / "arc.parquet").read_bytes()
    (tmp_path / "arc.parquet").write_bytes(damaged[: len(damaged) // 2])
    with pytest.raises(DataError, match="damaged or not Parquet"):
        read_file(tmp_path / "arc.parquet")


def test_what_the_test_file_holds_is_not_trained(tmp_path: Path) -> None:
    write(tmp_path / "sums-train.jsonl", [gsm8k(k) for k in range(40)])
    write(
        tmp_path / "sums-validation.jsonl",
        [{**gsm8k(k), "question": f"ANN has {k}  eggs and buys 2."} for k in range(30, 50)],
    )
    task = get_task("sums", data=str(tmp_path))
    assert isinstance(task, DataTask)
    assert len(task.train) == 30
    assert len(task.test) == 20
    nested = tmp_path / "sub" / "verl"
    nested.mkdir(parents=True)
    write(nested / "train.jsonl", [gsm8k(k) for k in range(40)])
    write(nested / "test.jsonl", [gsm8k(k) for k in range(50, 60)])
    for place in (nested, nested.parent):
        assert {k: len(v) for k, v in (records_of(str(place), "verl") or {}).items()} == {"train": 40, "test": 10}


QUESTIONS = st.sampled_from(["Open it", "open  IT", "Shut it", "shut it ", "Turn it", "Lift it", "Drop it", "Move it"])


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.tuples(QUESTIONS, st.sampled_from("abcdef"), st.sampled_from("uvwxyz")), min_size=4, max_size=40),
    form=st.sampled_from(["likelihood", "few-shot", "chat"]),
    parts=st.booleans(),
)
def test_no_prompt_is_trained_and_held_out_however_often_it_is_repeated(
    tmp_path: Path, rows: list[tuple[str, str, str]], form: Any, parts: bool
) -> None:
    for old in tmp_path.iterdir():
        old.unlink()
    made = [
        {"question": q, "options": [a, b], "option_labels": ["A", "B"], "answer": "AB"[len(q) % 2]} for q, a, b in rows
    ]
    if parts:
        write(tmp_path / "t-train.jsonl", made[::2])
        write(tmp_path / "t-test.jsonl", made[1::2])
    else:
        write(tmp_path / "t.jsonl", made)
    try:
        task = get_task("t", data=str(tmp_path), form=form, render=lambda messages: messages[-1][1])
    except DataError as error:
        if "training and" in error.what:  # all is in the test split, or none
            return
        raise
    assert isinstance(task, DataTask)
    trained = task.examples("train", len(task._asked_in_training), 0) if task._asked_in_training else []
    held = task.examples("test", len(task.test), 0)
    assert not {e.prompt.lower() for e in trained} & {e.prompt.lower() for e in held}
    questions = [{" ".join(e.record.question.lower().split()) for e in part} for part in (trained, held)]  # type: ignore[attr-defined]
    assert not questions[0] & questions[1]
    if parts:  # the user's test problems all stay
        assert len(held) == len({(" ".join(q.lower().split()), *sorted((a, b))) for q, a, b in rows[1::2]})


def test_labels_of_piqa_count_from_zero_or_one() -> None:
    def read(labels: list[Any]) -> list[str]:
        rows = [{"goal": f"g{k}", "sol1": "one", "sol2": "two", "label": v} for k, v in enumerate(labels)]
        return [record.answer for record in read_records([("f, line 1", row) for row in rows])]

    assert read(["1", "2", "1"]) == ["one", "two", "one"]
    assert read([1, 0]) == ["two", "one"]
    for labels in ([1, 1], [0, 2], [-1, 0], ["x"]):
        with pytest.raises(DataError, match="labels"):
            read(labels)


def test_countdown_targets_are_exact_and_impossible_rows_are_said() -> None:
    (record,) = read_records([("f", verl_countdown(6))])
    assert record.target * 3 == 4
    broken = verl_countdown(7)
    broken["extra_info"]["solution"] = "((7 - 2) / 2)"
    null = verl_countdown(8) | {"reward_model": {"ground_truth": None}}
    assert len(read_records([("f", verl_countdown(6)), ("f", broken), ("f", null)])) == 1
    (impossible,) = read_records([("f", {"nums": [1, 1], "target": 7})])
    with pytest.raises(DataError, match="f: the numbers cannot reach"):
        solution_of(impossible)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"question": "a", "answer": "1"}\n{"question": "b", "ans', "line 2: truncated"),
        (b"[1, 2]\n", "line 1: no JSON object"),
        (b'{"x": 1}\n', "line 1: its keys x are of no known schema"),
        (b"\xff\xfe{}\n", "line 1"),
        (b"[" * 100_000, "line 1"),
        (b"\n \n", "holds no row"),
        (b'{"question": "a\\ud800", "answer": "1"}', "half a surrogate"),
        (b'{"question": "a", "answer": ""}', "answer is empty"),
        (b'{"question": "a", "answer": "$"}', "no answer"),
        (b'{"question": "q", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "C"}', "label of one"),
        (b'{"question": "q", "choices": {"text": ["a", "a"], "label": ["A", "B"]}, "answerKey": "A"}', "two options"),
        (b'{"nums": [1, "2"], "target": 3}', "not all integers"),
        (b'{"nums": [1, 2], "target": "1e999999999"}', "is no number"),
        (b'{"nums": [1, 2, 3, 4, 5, 6], "target": 3}', "needs a solution"),
        (b'{"prompt": [], "reward_model": {"ground_truth": "1"}}', "prompt is no list"),
        (b'{"prompt": [{"role": "user", "content": "x"}], "reward_model": {}}', "no ground_truth"),
        (b'{"question": "q", "answer": "1", "n": ' + b"9" * 5000 + b"}", "line 1"),
    ],
)  # fmt: skip
def test_bad_lines_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_file(path)
    assert str(path) in caught.value.what
    assert caught.value.remedy


INNER = ["text", "label", "role", "content", "ground_truth", "numbers", "solution", "target", "x"]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(INNER), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip
KEYS = sorted({key for make in SCHEMAS.values() for key in make(5)} | {"numbers", "problem", "solution"})


@settings(max_examples=300)
@given(
    base=st.sampled_from(sorted(SCHEMAS)),
    changes=st.dictionaries(st.sampled_from(KEYS), json_values, max_size=3),
    dropped=st.sets(st.sampled_from(KEYS), max_size=1),
)
def test_any_row_is_read_or_refused(base: str, changes: dict[str, Any], dropped: set[str]) -> None:
    row = {key: value for key, value in (SCHEMAS[base](7) | changes).items() if key not in dropped}
    try:
        records = read_records([("f, line 1", row)])
    except DataError as error:
        named = "line 1" in error.what
    else:
        named = all(record.question and record.key for record in records)
    assert named


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=60)
    | st.text(max_size=60).map(lambda text: f'{{"question": "{text}"'.encode("utf-8", "replace"))
)
def test_any_bytes_are_read_or_refused(tmp_path: Path, content: bytes) -> None:
    pytest.importorskip("pyarrow")
    for ending in ("jsonl", "parquet"):
        path = tmp_path / f"any.{ending}"
        path.write_bytes(content)
        with pytest.raises(DataError):
            read_file(path)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(completion=st.text(max_size=40) | st.text("0123456789/.,-+*() ABC#$\\{}^yesno<>answer", max_size=40))
def test_any_completion_scores_in_the_unit_interval(completion: str) -> None:
    for name, make in SCHEMAS.items():
        record = read_records([("f", make(k)) for k in (6, 7)])[0]
        task = DataTask(name=name, train=(record,), test=(record,), form="chat", render=lambda messages: "x")
        (example,) = task.examples("test", 1, 0)
        accuracy, partial = task.score(example, completion), task.partial_score(example, completion)
        assert accuracy in (0.0, 1.0)
        assert 0.0 <= partial <= 1.0
        assert (accuracy == 1.0) == (partial == 1.0)


def test_answers_are_found() -> None:
    assert final_answer("2+2 = 4\n#### 1,234\n") == "1,234"
    assert final_answer(r"so \boxed{\frac{1}{2}} it is 7") == r"\frac{1}{2}"
    assert final_answer("The answer is $12.50 a day") == "12.50"
    assert final_answer("first 3, then 1,005 eggs") == "1005"
    assert final_answer("") == "" == final_answer("none")
    assert [
        chosen_option(c, ("cat", "dog")) for c in ("B", "(B)", "B. dog", "Dog.", "The answer is A.", "A dog", "C", "")
    ] == [1, 1, 1, 1, 0, None, None, None]
    assert [yes_or_no(c) for c in (" Yes.", "no, it", "<answer>true</answer>", "nobody", "")] == [
        True,
        False,
        True,
        None,
        None,
    ]


def test_numbers_compare_exactly() -> None:
    for given_, right in (("18", "18.00"), ("$1,800", "1800"), ("1/2", "0.5"), ("−3", "-3"), ("50\\%", "50")):
        assert same_answer(given_, right)
    for given_, right in (("18.0000001", "18"), ("", ""), ("1/0", "1"), ("x", "y"), ("9" * 30, "9" * 29 + "8")):
        assert not same_answer(given_, right)


def test_math_verify_is_asked_about_expressions_and_never_about_towers() -> None:
    pytest.importorskip("math_verify")
    assert same_answer(r"\frac{\sqrt{2}}{2}", r"\frac{1}{\sqrt{2}}")
    assert same_answer("x^2+1", "1+x^2")
    assert not same_answer("x+1", "x+2")
    for tower in ("9^{9^{9}}", "9^9^9", "((9^99)^99)^99", "99999!", "10^{999}", "__import__('os')"):
        assert not same_answer(tower, "3")


def test_without_math_verify_comparison_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "math_verify", None)
    from estheory.tasks.answers import _verified

    _verified.cache_clear()
    assert same_answer("0.50", "1/2")
    assert not same_answer("y^2+1", "1+y^2")
    _verified.cache_clear()


def test_bad_requests_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = str(folder)
    for name in ("nothing", "addition"):
        with pytest.raises(ConfigError, match=rf"has no file of task '{name}'.*arc, boolq"):
            get_task(name, data=data)
    with pytest.raises(DataError, match="no folder"):
        get_task("gsm8k", data=data + "/none")
    with pytest.raises(ConfigError, match="problems without options"):
        get_task("gsm8k", data=data, form="likelihood")
    task = get_task("gsm8k", data=data)
    with pytest.raises(ConfigError, match="test prompts, 5000 were asked"):
        task.examples("test", 5000, 0)
    with pytest.raises(ConfigError, match="none of task"):
        task.score(Example(prompt="x", reference="y"), "y")
    with pytest.raises(ConfigError, match="chat template"):
        get_task("gsm8k", data=data, form="chat").examples("test", 1, 0)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (folder / "p.parquet").write_bytes(b"x")
    with pytest.raises(MissingDependencyError, match=r"pyarrow.*pip install"):
        get_task("p", data=data)


def test_the_hub_is_asked_only_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    asked = []

    def load(name: str, configuration: str | None) -> dict[str, list[dict[str, Any]]]:
        asked.append((name, configuration))
        return {"train": [gsm8k(k) for k in range(9)], "test": [gsm8k(k) for k in range(9, 15)], "extra": []}

    monkeypatch.setattr(datasets, "load_dataset", load)
    task = get_task("sums", data="hf:someone/sums:main")
    assert isinstance(task, DataTask)
    assert (len(task.train), len(task.test)) == (9, 6)
    assert asked == [("someone/sums", "main")]
    hashes = data_hashes("hf:someone/sums:main", "sums")
    assert hashes.keys() == {"train", "test"}
    monkeypatch.setattr(datasets, "load_dataset", lambda *_: {**load("", None), "test": [gsm8k(k) for k in range(14)]})
    changed = data_hashes("hf:someone/sums:main", "sums")
    assert changed["train"] == hashes["train"]
    assert changed["test"] != hashes["test"]
    assert data_of("sorting", "hf:someone/sums", trained="sums") == ""
    assert data_of("sorting", "hf:someone/sums", trained="sorting") == "hf:someone/sums"


def test_no_torch(folder: Path) -> None:
    code = (
        "import sys; from estheory.tasks import get_task; "
        f"get_task('arc', data={str(folder)!r}).examples('test', 3, 0); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
