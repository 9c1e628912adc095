"""The page about a sequence of tasks: finished, running, half missing, empty."""

from __future__ import annotations

import json
import math
import re
import shutil

import numpy as np
import pytest

pytest.importorskip("torch")

from estheory.cli.app import main
from estheory.quantities import Quantity
from estheory.reporting.page.figures import Series
from estheory.reporting.page.probe_figures import _close_up, direction_lines, matrix
from estheory.runs.sequence import read_sequence
from estheory.validation.judge import judge, verdict_pvalue
from estheory.validation.sequence_pairs import joint_pairs
from tests.reporting import chromium

TASKS = ("reversal", "addition")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("sequence") / "seq"
    size = ["--steps", "3", "--population", "4", "--prompts", "4", "--samples", "2", "--evaluation-prompts", "4"]
    names = ["--tasks", ",".join(TASKS), "--methods", "es,grpo", "--seeds", "0,1", "--lr", "1e-4", "--keep", "all"]
    said = str(out.parent / "said")
    assert main(["run", "sequence", *names, *size, "--out", str(out), "--quiet", "--output", said]) == 0
    return out


def reported(folder, page, *options):
    said = page.with_suffix(".json")
    code = main(["report", str(folder), "--out", str(page), "--json", "--output", str(said), *options])
    return code, page.read_text(encoding="utf-8"), json.loads(said.read_text())


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    page = tmp_path_factory.mktemp("page") / "page.html"
    return *reported(folder, page, "--evaluate", "4"), page


def heads(html):
    return re.findall(r"<h2[^>]*>(.*?)</h2>", html)


def test_a_finished_sequence_is_shown_whole(whole, folder):
    code, html, document, _ = whole
    assert code == 3  # AdamW on a task that it learns is no noise
    assert document["warnings"] == []
    assert heads(html)[:2] == ["Measured over predicted", "Verdicts"]
    parts = [f"{what} by stage: {m}" for what in ("Accuracy", "Drift", "Distance") for m in ("ES", "GRPO")]
    assert set(parts) <= set(heads(html))
    assert {"Layer by layer: all ES stages", "Directions at the end"} <= set(heads(html))
    assert "What is missing" not in html
    assert "8 of 8 stages are finished" in html
    assert "<details><summary>All " in html
    assert "://" not in html
    summary = json.loads((folder / "summary.json").read_text())
    es = [row for row in summary["sequences"] if row["method"] == "es"]
    mean = np.mean([row["accuracy"] for row in es], axis=0)
    assert f"reversal {mean[0, 0]:.2f} → {mean[1, 0]:.2f}" in html
    ends = [row["kl"][-1] for row in es]
    assert f"{np.mean(ends, axis=0).max():.2g} nat a token" in html
    assert f"GRPO {summary['cosines']['values'][2][3]:.3f}".replace("-", "−") in html
    assert all('role="img"' in figure and "<desc>" in figure for figure in re.findall(r"<svg.*?</svg>", html, re.S))


def test_matrices_are_those_of_the_summary(folder):
    sequence = read_sequence(folder)
    for row in json.loads((folder / "summary.json").read_text())["sequences"]:
        for quantity in ("accuracy", "kl"):
            np.testing.assert_array_equal(sequence.matrix(row["method"], row["seed"], quantity), row[quantity])


def test_stages_of_a_seed_share_their_noise_and_the_law_knows(folder):
    """The distance from the base after two stages, and two wrong laws: of independent stages, and of doubled norms."""
    sequence = read_sequence(folder)
    pairs = list(joint_pairs(sequence))
    assert [m.source for _, m in pairs] == ["es/seed-0/2-addition", "es/seed-1/2-addition"]
    assert all(verdict.kind == "consistent" for verdict in judge(pairs, 1e-6))
    wrong = []
    for prediction, measurement in pairs:
        stages = sequence.of("es", int(measurement.source.split("/")[1].removeprefix("seed-")))
        apart = math.sqrt(sum(stage.done["norm"] ** 2 for stage in stages))
        wrong.append(abs(apart / prediction.law.mean - 1) * math.sqrt(2 * stages[0].run.dim))
        assert prediction.quantity is Quantity.DISPLACEMENT_NORM
        assert verdict_pvalue(prediction, measurement) > 1e-6
    assert max(wrong) > 4.9  # independent stages are refuted


def damaged(folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    return copy


def test_a_running_sequence_says_what_is_missing(folder, tmp_path):
    copy = damaged(folder, tmp_path)
    (copy / "summary.json").unlink()
    shutil.rmtree(copy / "grpo" / "seed-1")
    stage = copy / "es" / "seed-1" / "2-addition"
    (stage / "done.json").unlink()
    lines = (stage / "steps.jsonl").read_text().splitlines(keepends=True)
    (stage / "steps.jsonl").write_text("".join(lines[:2]) + lines[2][:20])
    shutil.rmtree(stage / "checkpoints")
    (copy / "es" / "seed-0" / "2-addition" / "environment.json").write_text("{")
    code, html, document = reported(copy, tmp_path / "page.html")
    assert code in (0, 3, 4)
    assert heads(html)[0] == "What is missing"
    for words in (
        "grpo/seed-1/1-reversal: not begun",
        "grpo/seed-1/2-addition: not begun",
        "es/seed-1/2-addition: at step 2 of 3, still running or cut off",
    ):
        assert words in document["warnings"]
        assert words.split(": ")[1] in html
    assert any(w.startswith("es/seed-0/2-addition:") and "environment.json" in w for w in document["warnings"])
    assert "Directions at the end" not in heads(html)


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("es/seed-0/1-reversal/done.json", "[]", "done.json is damaged"),
        ("es/seed-0/1-reversal/done.json", '{"before": {"a": 1}}', "done.json is damaged"),
        ("es/seed-0/1-reversal/steps.jsonl", '{"step": 1}\n', "es/seed-0/1-reversal"),
        ("summary.json", "[]", "summary.json"),
        ("summary.json", '{"cosines": {"of": ["a"], "values": [["x"]]}}', "summary.json"),
    ],
)
def test_damage_is_said_and_never_a_traceback(folder, tmp_path, capsys, file, content, words):
    copy = damaged(folder, tmp_path)
    (copy / file).write_text(content)
    code = main(["report", str(copy), "--out", str(tmp_path / "page.html")])
    said = capsys.readouterr()
    assert code in (0, 2, 3, 4)
    assert "internal" not in said.err
    assert words in said.err
    assert (code == 2) == (not (tmp_path / "page.html").exists())


def test_an_empty_sequence_and_an_empty_folder_are_one_line(folder, tmp_path, capsys):
    copy = tmp_path / "begun"
    copy.mkdir()
    shutil.copy(folder / "sequence.json", copy)
    (tmp_path / "empty").mkdir()
    for target, words in ((copy, "not begun"), (tmp_path / "empty", "empty")):
        assert main(["report", str(target), "--out", str(tmp_path / "x.html")]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert words in said
    (copy / "sequence.json").write_text('{"tasks": 3}')
    assert main(["report", str(copy), "--out", str(tmp_path / "x.html")]) == 2
    assert "sequence.json" in (said := capsys.readouterr().err) or "damaged" in said
    assert not (tmp_path / "x.html").exists()


def test_a_folder_of_runs_takes_those_that_are_there(folder, tmp_path):
    runs = tmp_path / "runs"
    for name in ("1-reversal", "2-addition"):
        shutil.copytree(folder / "es" / "seed-0" / name, runs / name)
    (runs / "1-reversal" / "steps.jsonl").write_text("")
    lines = (runs / "2-addition" / "steps.jsonl").read_text().splitlines(keepends=True)
    (runs / "2-addition" / "steps.jsonl").write_text("".join(lines[:1]))
    code, html, document = reported(runs, tmp_path / "page.html")
    assert code in (0, 3, 4)
    assert "2-addition: at step 1 of 3, still running or cut off" in document["warnings"]
    assert any(w.startswith("1-reversal: ") and "no finished step" in w for w in document["warnings"])
    assert "Distance" in heads(html)


def test_matrix_figures_write_every_value():
    svg = matrix(["a"], ["x", "y"], [[0.5, math.nan]], [[0.01, math.nan]], title="accuracy", x_label="after")
    assert "a, x: 0.5; a, y: -." in svg
    assert "±0.01" in svg
    assert "−0.25" in matrix(["a"], ["x"], [[-0.25]], None, title="cosine")


def test_a_wide_series_does_not_flatten_the_others():
    steps = [0.0, 1.0]
    near = [Series(label=name, values=[0.0, v], steps=steps, stderrs=[0.1, 0.1]) for name, v in (("a", 1), ("b", -1))]
    wide = Series(label="c", values=[0.0, -30.0], steps=steps, stderrs=[0.1, 0.1])
    assert _close_up(near) is None
    assert _close_up([*near, wide]) == pytest.approx((-1.3, 1.3))
    assert "close up" in direction_lines([*near, wide])
    assert "close up" not in direction_lines(near)


@pytest.mark.slow
@pytest.mark.skipif(chromium.PROGRAM is None, reason="no Chromium is installed")
def test_the_page_in_a_browser(whole, tmp_path):
    *_, page = whole
    with chromium.browser(tmp_path / "profile") as tab:
        for width, dark in ((390, True), (320, False), (1280, False)):
            tab.show(width=width, dark=dark)
            tab.open(page.as_uri())
            assert tab.value("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
            outside = tab.value(
                """[...document.querySelectorAll('svg')].flatMap(svg => { const box = svg.getBoundingClientRect();
                return [...svg.querySelectorAll('text')].filter(e => { const r = e.getBoundingClientRect();
                return r.left < box.left - 1 || r.right > box.right + 1 || r.bottom > box.bottom + 2; })
                .map(e => e.textContent); })"""
            )
            assert outside == []
            overlap = tab.value(OVERLAP)
            assert overlap == []
        assert tab.value("document.querySelector('details').open") is False
        tab.value("document.querySelector('summary').focus()")
        for kind in ("keyDown", "keyUp"):
            tab.send(
                "Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", text="\r", windowsVirtualKeyCode=13
            )
        assert tab.value("document.querySelector('details').open") is True
        assert tab.value("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
        complaints = [e for e in tab.events if e.get("method") in {"Log.entryAdded", "Runtime.exceptionThrown"}]
        assert complaints == []
        tab.show(width=680, media="print")
        wide = "[...document.querySelectorAll('table')].filter(t => t.scrollWidth > 680).length"
        assert tab.value(wide) == 0


OVERLAP = """[...document.querySelectorAll('svg')].flatMap(svg => { const all = [...svg.querySelectorAll('text')]
    .map(e => [e.textContent, e.getBoundingClientRect()]); const found = [];
    all.forEach(([a, r], i) => all.slice(i + 1).forEach(([b, s]) => {
        const x = Math.min(r.right, s.right) - Math.max(r.left, s.left);
        const y = Math.min(r.bottom, s.bottom) - Math.max(r.top, s.top);
        if (x > 2 && y > 0.45 * Math.min(r.height, s.height)) found.push(a + ' / ' + b); })); return found; })"""
"""Pairs of labels of one figure that lie on each other."""
