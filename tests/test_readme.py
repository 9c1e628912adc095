"""What the README tells people to type, typed."""

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from estheory.cli.app import main

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
RECIPES = README.split("## Recipes\n")[1].split("\n## ")[0]
COMMANDS = README.split("## Commands\n")[1].split("\n## ")[0]


def blocks(text, language):
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.S)


def commands(text):
    lines = "\n".join(blocks(text, "bash")).splitlines()
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


LONG = ("simulate", "models", "measure", "validate", "report")  # minutes, or files of earlier lines; tested elsewhere


@pytest.mark.parametrize("command", [c for c in commands(COMMANDS) if c[0] not in LONG], ids=" ".join)
def test_commands(command, tmp_path, monkeypatch, capsys):
    if command[0] == "run":
        pytest.importorskip("safetensors")
    if "smollm2-135m" in command:
        pytest.skip("needs a model that is not shipped")
    monkeypatch.chdir(tmp_path)
    Path("spectrum.csv").write_text("eigenvalue,multiplicity,offset\n5,2,0.002\n0.5,40,0.0004\n")
    assert main([*command, *(["--dry-run"] if command[0] == "run" else [])]) == 0, capsys.readouterr().err
