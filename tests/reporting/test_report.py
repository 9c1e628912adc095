"""The page about runs: what it shows of records, and that each figure shows the numbers it is given."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest

from estheory.errors import ConfigError
from estheory.laws import ChiLaw, SquaredLaw
from estheory.quantities import Measurement, Prediction, Quantity, Verdict
from estheory.reporting.page import weight_sections
from estheory.reporting.page.figures import Series
from estheory.reporting.page.probe_figures import direction_lines, kl_matrix
from estheory.reporting.page.weight_sections import norm_series
from tests.recorded_runs import own_run
from tests.reporting import chromium

SIZES = {"model.embed_tokens.weight": 300, "model.layers.0.a.weight": 100, "model.layers.0.b.weight": 200}


def ratio(name, size, value, assumptions=()):
    law = SquaredLaw(ChiLaw(1 / math.sqrt(size), size))
    quantity = Quantity.EFFECTIVE_DIMENSION_RATIO
    prediction = Prediction(quantity=quantity, law=law, label="exact", source="x", assumptions=assumptions)
    measurement = Measurement(quantity=quantity, value=value, where=f"tensor:run:{name}")
    return Verdict(prediction=prediction, measurement=measurement, pvalue=0.5, power=0.1, kind="underpowered")


def test_layers_pool_their_tensors():
    verdicts = [ratio(name, size, 1 + 0.1 * i) for i, (name, size) in enumerate(SIZES.items())]
    section = weight_sections.layer_section("Layers", verdicts)
    assert "0 of 2 lie outside" in section.sentence
    assert "embed_tokens" in section.figure_svg
    assert "layer 0" in section.figure_svg
    pooled = (100 * 1.1 + 200 * 1.2) / 300
    low, high = SquaredLaw(ChiLaw(1 / math.sqrt(300), 300)).interval(0.99)
    assert low < pooled < high
    strays = [ratio(name, size, 1.5) for name, size in SIZES.items()]
    assert "2 of 2 lie outside" in weight_sections.layer_section("Layers", strays).sentence


def test_kl_matrix_names_every_value():
    svg = kl_matrix(["a", "b"], ["x", "y"], [[0.5, math.nan], [0.001, 0.02]])
    assert "a, x: 0.5; a, y: -; b, x: 0.001; b, y: 0.02." in svg
    shades = [float(s) for s in re.findall(r"fill-opacity: ?([0-9.]+)|opacity: ?([0-9.]+)", svg) for s in s if s]
    assert max(shades) > min(shades)
    with pytest.raises(ConfigError):
        kl_matrix(["a"], ["x", "y"], [[0.5]])


def test_direction_lines_describe_each_direction():
    series = [
        Series(label=name, values=[0.2, top], steps=[0, 1], stderrs=[0.1, 0.1])
        for name, top in (("ES", 0.9), ("r", 0.1))
    ]
    svg = direction_lines(series)
    assert "ES: 0.2 at distance 0, at most 0.9 at 1" in svg
    assert "r: 0.2 at distance 0, at most 0.2 at 0, 0.1 at 1" in svg


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    pytest.importorskip("torch")
    from estheory.cli.app import main
    from tests.validation import foreign_runs

    folder = tmp_path_factory.mktemp("runs")
    common = ["--prompts", "8", "--evaluation-prompts", "8", "--quiet", "--output", str(folder / "said")]
    es = ["run", "es", "--steps", "4", "--population", "6", "--checkpoint-every", "2", "--out", str(folder / "es")]
    grpo = ["run", "grpo", "--steps", "4", "--lr", "1e-4", "--samples", "4", "--out", str(folder / "grpo")]
    assert main([*es, *common]) == main([*grpo, *common]) == 0
    foreign_runs.esvsgrpo_es(folder / "sequential_ES_baseline_with_a_long_name")
    names = ("es", "grpo", "sequential_ES_baseline_with_a_long_name")
    page, said = folder / "page.html", folder / "report.json"
    targets = [str(folder / name) for name in names]
    code = main(["report", *targets, "--out", str(page), "--evaluate", "8", "--json", "--output", str(said)])
    return code, page.read_text(encoding="utf-8"), json.loads(said.read_text()), page


def test_a_report_of_runs(reported):
    code, html, document, page = reported
    assert code == 3  # AdamW's displacement on a task that it learns is no noise
    assert document["schema"] == "estheory/report/1"
    assert document["page"] == str(page)
    refuted = re.findall(r'<span class="kind refuted">[^/]*</span>refuted</span></td><td>(.*?)(?: <span|</td>)', html)
    assert document["summary"]["refuted"] == len(refuted)
    # the height of a line from the slopes at its ends is known to be 1 to 5 % off, which is not always noticed
    walks = {"grpo_displacement_<wbr>norm", "norm_ratio"}
    assert walks <= set(refuted) <= walks | {"interpolation_<wbr>gain"}
    assert len(document["warnings"]) == 1
    assert "://" not in html
    heads = re.findall(r"<h2[^>]*>(.*?)</h2>", html)
    assert heads[:3] == ["What the run earned and paid", "Measured over predicted", "Verdicts"]
    for head in ("Distance", "Layer by layer: es", "Directions", "Accuracy", "KL by task and run", "Left out"):
        assert head in heads
    assert {"Between the solutions: accuracy", "Along directions: log-probability (nat)", "Drift of behaviour"} <= set(
        heads
    )
    figures = re.findall(r"<svg.*?</svg>", html, re.S)
    assert len(figures) >= 8
    assert all('role="img"' in figure and "<desc>" in figure for figure in figures)
    assert html.count("<p>") >= len(figures)  # a sentence each


@pytest.mark.slow
@pytest.mark.skipif(chromium.PROGRAM is None, reason="no Chromium is installed")
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 1100])
def test_the_report_in_a_browser(reported, tmp_path, dark, width):
    *_, page = reported
    with chromium.browser(tmp_path / "profile") as tab:
        tab.show(width=width, dark=dark)
        tab.open(page.as_uri())
        overflow = tab.value("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        outside = tab.value(
            """[...document.querySelectorAll('svg')].flatMap(svg => { const box = svg.getBoundingClientRect();
            return [...svg.querySelectorAll('text')].filter(e => { const r = e.getBoundingClientRect();
            return r.left < box.left - 1 || r.right > box.right + 1 || r.bottom > box.bottom + 2; })
            .map(e => e.textContent); })"""
        )
        complaints = [e for e in tab.events if e.get("method") in {"Log.entryAdded", "Runtime.exceptionThrown"}]
    assert overflow == 0
    assert outside == []
    assert complaints == []


def test_a_run_twice_and_runs_that_cannot_be_judged(tmp_path, capsys):
    from estheory.cli.app import main

    assert main(["report", str(tmp_path), str(tmp_path)]) == 2
    assert "given twice" in capsys.readouterr().err
    (tmp_path / "a").mkdir()
    for options in ([], ["--keep-going"]):
        assert main(["report", str(tmp_path / "a"), *options, "--out", str(tmp_path / "x.html")]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "x.html").exists()
    assert main(["report", str(tmp_path / "a"), "--evaluate", "1"]) == 2


def test_norms_of_a_foreign_run_carry_their_band():
    law = ChiLaw(0.1, 1000)
    quantity = Quantity.DISPLACEMENT_NORM
    prediction = Prediction(quantity=quantity, law=law, label="exact", source="x", step=5, systematic=0.02)
    measurement = Measurement(quantity=quantity, value=3.2, step=5, where="total:step 5")
    verdict = Verdict(prediction=prediction, measurement=measurement, pvalue=0.5, power=1, kind="consistent")
    series = weight_sections.judged_norm_series("x", [verdict])
    assert series is not None
    assert series.predicted is not None
    low, high = law.interval(0.95)
    np.testing.assert_allclose(
        [series.predicted.low[0], series.predicted.high[0]], [low - 0.02 * law.mean, high + 0.02 * law.mean]
    )
    assert weight_sections.judged_norm_series("x", []) is None


@pytest.mark.parametrize(
    ("options", "has_band"),
    [({}, True), ({"momentum": 0.5}, True), ({"dtype": "bfloat16"}, False), ({"anchor_l1": 1e-4}, False)],
)
def test_a_band_is_drawn_only_where_it_is_the_law(options, has_band):
    """Rounding and the pull of an L1 anchor are in the verdicts; the plain walk's band would contradict them."""
    rows = tuple({"step": k, "norm": 0.1 * k, "coefficients": [1.0, -1.0, 1.0, -1.0]} for k in (1, 2, 3))
    run = own_run(rows, dim=100, **options)
    band = norm_series("es", run).predicted
    assert (band is not None) == has_band
    if not options:
        assert np.allclose(band.mean, 0.01 * np.sqrt(100 * np.arange(1, 4) / 4))
