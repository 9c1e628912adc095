"""What the README tells people to type, typed."""

import re
import shlex
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import estheory
from estheory.cli.app import COMMANDS, main

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
RECIPES = README.split("## Recipes\n")[1].split("\n## ")[0]
LINE = README.split("## The whole line\n")[1].split("\n## ")[0]


def blocks(text, language):
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.S)


def commands(text):
    lines = "\n".join(blocks(text, "bash")).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("estheory ")]


@pytest.fixture
def checkpoints(tmp_path, monkeypatch):
    """BASE, and two checkpoints as far from it as 100 steps of the recipes' run go, where the README's reader is."""
    torch_files = pytest.importorskip("safetensors.numpy")
    from estheory.models.builtin import get_builtin

    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name, alpha in (("BASE", 0.0), ("ES", 0.00075), ("GRPO", 0.0001)):
        shutil.copytree(get_builtin("tiny-lm"), name)
        weights = torch_files.load_file(f"{name}/model.safetensors")
        moved = {
            key: (value + alpha * np.sqrt(100 / 30) * rng.standard_normal(value.shape)).astype(np.float32)
            for key, value in weights.items()
        }
        torch_files.save_file(moved, f"{name}/model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("command", commands(RECIPES), ids=" ".join)
def test_recipes(command, checkpoints, capsys):
    assert main(command) == 0, capsys.readouterr().err
    assert capsys.readouterr().out


@pytest.mark.parametrize("block", blocks(RECIPES, "python"))
def test_their_python_twins(block, checkpoints, capsys):
    if "integrations" in block:
        pytest.importorskip("transformers")
    exec(compile(block, "README.md", "exec"), {})
    assert capsys.readouterr().out or "callback" in block


def test_there_are_five_recipes():
    assert len(commands(RECIPES)) == 4
    assert len(blocks(RECIPES, "python")) == 5


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


@pytest.mark.slow
def test_the_whole_line(tmp_path, monkeypatch, capsys):
    pytest.importorskip("torch")
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    for command in commands(LINE):
        assert main(command) in (0, 3, 4), capsys.readouterr().err
    assert (tmp_path / "report.html").stat().st_size > 10_000
    shell = (tmp_path / "runs/es/steps.jsonl").read_text()
    shutil.rmtree("runs")
    [block] = blocks(LINE, "python")
    exec(compile(block, "README.md", "exec"), {})
    assert "displacement_norm" in capsys.readouterr().out
    assert (tmp_path / "runs/es/steps.jsonl").read_text() == shell  # its Python twin: the same run to the bit
