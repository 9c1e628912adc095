"""What the README tells people to type, typed."""

import re
import shlex
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

import estheory
from estheory.cli.app import COMMANDS, main
from tests.readme_files import write_files
from tests.variants import variants

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
QUESTIONS = re.split(r"\n## ", README[README.index("## Will it learn?") : README.index("## The whole line")])
LINE = README.split("## The whole line\n")[1].split("\n## ")[0]


def blocks(text, language):
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.S)


def commands(text):
    lines = "\n".join(blocks(text, "bash")).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("estheory ")]


@pytest.fixture
def reader(tmp_path, monkeypatch):
    """Stand where the README's reader is, with the files that it names."""
    pytest.importorskip("safetensors.numpy")
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path)


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda text: text.partition("\n")[0])
def test_each_question_is_answered_as_shown(question, reader, capsys):
    asked = commands(question)
    assert asked
    for command in asked:
        assert main(command) == (3 if command[0] == "check" else 0), capsys.readouterr().err
    printed = capsys.readouterr().out.splitlines()
    [shown] = blocks(question, "text")
    assert [line for line in shown.splitlines() if line not in ("", "...", *printed)] == []


@pytest.mark.parametrize(
    "question",
    variants(QUESTIONS, fast=[text for text in QUESTIONS if "bf16" not in text.partition("\n")[0]]),
    ids=lambda text: text.partition("\n")[0],
)
def test_the_python_twins(question, reader, capsys):
    [block] = blocks(question, "python")
    exec(compile(block, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert printed
    if said := re.search(r"\)  # ([\d. ]+)$", block, flags=re.M):
        assert [float(x) for x in printed.split()] == pytest.approx([float(x) for x in said[1].split()], rel=1e-2)


def test_the_way_to_a_decision_is_short():
    assert len(QUESTIONS) == 5
    before = README[: README.index("| command | for")]
    assert len(re.sub(r"```.*?```", "", before, flags=re.S).split()) <= 900
    rows = README.split("\n## Claims\n")[1].split("\n## ")[0].split("|---")[-1].splitlines()[1:]
    claims = [row.split("|")[1:-1] for row in rows if row.startswith("|")]
    assert 8 <= len(claims) <= 12
    assert max(len(re.sub(r"\]\([^)]*\)", "", cell)) for row in claims for cell in row) <= 110
    assert "**refuted**" in README


def test_every_command_is_in_the_table_with_its_python():
    rows = [line.split("|") for line in LINE.splitlines() if line.startswith("| `")]
    named = {word.split()[0] for row in rows for word in re.findall(r"`([^`]+)`", row[1])}
    assert named == set(COMMANDS)
    for row in rows:
        for name in re.findall(r"`([A-Za-z_.]+)", row[3]):
            if name.startswith("estheory."):
                assert find_spec(name), name
            else:
                assert name in estheory.__all__, name


def test_the_run_of_a_pretrained_model_can_be_typed(tmp_path, monkeypatch, capsys):
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    [command] = [command for command in commands(LINE) if command[:2] == ["run", "es"] and "smollm2-135m" in command]
    small = {"smollm2-135m": "tiny-lm", "products": "addition"}
    assert main([*(small.get(word, word) for word in command), "--dry-run"]) == 0
    assert "displacement_norm" in capsys.readouterr().out


@pytest.mark.slow
def test_the_whole_line(tmp_path, monkeypatch, capsys):
    pytest.importorskip("torch")
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    for command in commands(LINE):
        if "smollm2-135m" not in command:  # a download, and minutes
            assert main(command) in (0, 3, 4), capsys.readouterr().err
    assert (tmp_path / "report.html").stat().st_size > 10_000
    shell = (tmp_path / "runs/es/steps.jsonl").read_text()
    shutil.rmtree("runs")
    [block] = blocks(LINE, "python")
    exec(compile(block, "README.md", "exec"), {})
    assert "displacement_norm" in capsys.readouterr().out
    assert (tmp_path / "runs/es/steps.jsonl").read_text() == shell  # its Python twin: the same run to the bit
