"""The recorded terminal: what the tour's commands write today, and nothing beyond its columns."""

import json
import re
import runpy
from pathlib import Path
from xml.etree import ElementTree

import pytest

DOCS = Path(__file__).parents[1] / "docs"
RECORDING = runpy.run_path(str(DOCS / "recording.py"))


@pytest.fixture(scope="module")
def files():
    return RECORDING["files"]()


@pytest.fixture
def screen(files):
    """What stands on the terminal in the end, without colours."""
    events = [json.loads(line) for line in files["terminal.cast"].splitlines()[1:]]
    assert [time for time, _, _ in events] == sorted(time for time, _, _ in events)
    return re.sub(r"\x1b\[\d*m", "", "".join(text for _, _, text in events)).replace("\r", "")


@pytest.mark.parametrize("name", ["terminal.cast", "terminal.svg", "film.svg"])
def test_the_files_are_what_the_commands_write_today(files, name):
    assert (DOCS / name).read_text(encoding="utf-8") == files[name], "python docs/recording.py"
    assert len(files[name]) < 400_000


def test_the_terminal_shows_the_tour_s_commands_and_their_answers(screen):
    assert max(map(len, screen.splitlines())) <= RECORDING["COLUMNS"]
    said = " ".join(screen.replace("\\\n", " ").split())
    for command in re.findall(RECORDING["TYPED"], (DOCS / "index.md").read_text(encoding="utf-8")):
        assert "$ " + " ".join(command.replace("\\\n", " ").split()) in said
    assert screen.count("$ estheory") == 3
    assert "ES will move 174 weight units in 400 steps" in said
    assert "refuted" in said


@pytest.mark.parametrize("name", ["terminal.svg", "film.svg"])
def test_the_pictures_hold_every_word_and_nothing_from_elsewhere(files, screen, name):
    root = ElementTree.fromstring(files[name])
    words = {word for element in root.iter() if element.tag.endswith("text") for word in element.text.split()}
    assert words == set(screen.split())
    assert not re.search(r"(href|src|url)[=(]|@font-face|<script", files[name])


def test_a_command_that_fails_is_not_recorded():
    with pytest.raises(RuntimeError, match="exits with 2"):
        RECORDING["written"]("estheory predict --dim none")
