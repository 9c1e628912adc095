"""The figures of docs/concepts: each page has one, the code draws it, and its points lie on its laws."""

import math
import re
import runpy
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy.special import stdtrit

pytest.importorskip("matplotlib")
CONCEPTS = Path(__file__).parents[1] / "docs/concepts"
DRAWING = runpy.run_path(str(CONCEPTS.parent / "figures.py"))
FIGURES = DRAWING["FIGURES"]
NUMBER = r"(?<![\w#])(-?\d+\.\d+)"
"""Where a picture has something: another processor's last digit may be another."""
NO_FIGURE = {"symbols": "a table", "economy": "its figures are those of the commands: --plot draws them from rewards"}


@pytest.fixture(scope="module")
def pictures():
    made = {}

    def get(name):
        if name not in made:
            made[name] = FIGURES[name]()
        return made[name]

    return get


def on_its_laws(picture):
    """Whether every point is where its law says.

    A false alarm has a chance of at most 1e-6 a figure: Student's quantile at 1e-8, shared by the figure's points. The
    factor of 100 is for means that are not quite normal (skewness up to 0.14, of shares of 0.05 in 1,000 verdicts).
    """
    series = [one for one in picture.series if one.holds]
    tail = 0.5e-8 / sum(len(one.at) for one in series)
    return all(np.all(np.abs(one.pull) < -stdtrit(one.samples.shape[1] - 1, tail)) for one in series)


WRONG = {
    "walk": lambda law: lambda steps: law(steps) * math.sqrt(10 / 9),  # N - 1 members
    "signal": lambda law: lambda dim: law(dim) / 0.9227,  # c(N) forgotten
    "quadratic": lambda law: lambda alpha: law(alpha) + 0.5 * alpha**2 * 70 / 100,  # the noise of a step costs nothing
    "dynamics": lambda law: lambda step: law(step) * (1 - 0.1 * (step > 125)),  # a tenth of the decay is missing
    "drift": lambda law: lambda step: 2 * law(step),  # the half of 1/2 v tr F
    "es-and-grpo": lambda law: lambda steps: 1.0,  # k = 1
    "precision": lambda law: lambda x: 1.0,  # what float32 would keep
    "laws-and-verdicts": lambda law: lambda percent: law(percent / 1.1),  # a spread that is a tenth too small
}


@pytest.mark.parametrize("name", FIGURES)
def test_points_lie_on_their_laws_and_leave_wrong_ones(name, pictures):
    picture = pictures(name)
    assert on_its_laws(picture)
    wrong = replace(picture, series=tuple(replace(one, law=WRONG[name](one.law)) for one in picture.series))
    assert not on_its_laws(wrong)


def test_where_a_page_says_that_its_law_fails_it_fails(pictures):
    failing = [one for name in FIGURES for one in pictures(name).series if not one.holds]
    assert failing
    for one in failing:
        assert not on_its_laws(replace(pictures("drift"), series=(replace(one, holds=True),)))


def test_every_concept_page_shows_its_figure_in_words_too():
    pages = {page.stem: page.read_text(encoding="utf-8") for page in CONCEPTS.glob("*.md")}
    assert set(pages) == FIGURES.keys() | NO_FIGURE.keys()
    for name in FIGURES:
        alt, file, caption = re.search(r"^!\[(.+)\]\((.+)\)\n\*(.+?)\*$", pages[name], flags=re.M | re.S).groups()
        assert file == f"{name}.svg"
        assert len(alt) > 40
        assert all(word in caption for word in ("Line", "Points", "Seed", FIGURES[name].__name__))


def test_a_picture_has_a_title_and_nothing_from_elsewhere_and_its_file_is_what_is_drawn(pictures):
    for name in FIGURES:
        svg = DRAWING["svg"](pictures(name))
        ElementTree.fromstring(svg)
        assert pictures(name).title in svg
        assert "mathdefault" not in svg
        assert not re.search(r"(href|src|url)[=(]\s*[\"']?(?!#)\w", svg)
        drawn, kept = (re.split(NUMBER, text) for text in (svg, (CONCEPTS / f"{name}.svg").read_text(encoding="utf-8")))
        assert drawn[::2] == kept[::2], f"{name}: python docs/figures.py"
        assert [float(x) for x in drawn[1::2]] == pytest.approx([float(x) for x in kept[1::2]], abs=0.01)
