"""What notebooks and print show of results, their data frames and figures."""

import json
import sys
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pytest

import estheory as es
from estheory.errors import MissingDependencyError
from estheory.reporting.notebook import view_of
from tests.theory.economy.zero_one import CASES

RUN = es.ESConfig(dim=10**6, sigma=0.01, population=8, steps=10)


def a_ledger():
    rng = np.random.default_rng(0)
    rules = es.LedgerRules(sigma=0.01, alpha=0.005, population=8)
    updates = [es.LoggedUpdate(step=t, rewards=rng.normal(0.5 + 0.01 * t, 0.1, 8)) for t in range(1, 21)]
    return updates, rules


def a_pilot():
    rewards, centre = CASES["linear"].rewards(np.random.default_rng(1), 30, 100, mirrored=True)
    return es.pilot((es.Iteration(rewards=rewards, sigma=1e-3, mirrored=True, centre=centre),))


def displacements():
    save_file = pytest.importorskip("safetensors.numpy").save_file
    from estheory.measurement.displacement import measure_displacements

    folder = Path(mkdtemp())
    for name, value in (("base", 0.0), ("step_5", 1.0), ("step_10", 2.0)):
        save_file({f"layers.{k}.w": np.full(8, value, np.float32) for k in range(2)}, folder / f"{name}.safetensors")
    ends = {name: folder / f"{name}.safetensors" for name in ("step_5", "step_10")}
    return measure_displacements(folder / "base.safetensors", ends)


TABLES = {
    "prediction": lambda: es.predict(RUN).get(es.Quantity.DISPLACEMENT_NORM),
    "measurement": lambda: es.published_pairs().pairs[0][1],
}
"""Results without a figure."""
RESULTS = {
    "displacements": displacements,
    "forecast": lambda: es.predict(RUN, checkpoints=(1, 5, 10)),
    "verdicts": lambda: es.judge(es.published_pairs().pairs),
    "verdict": lambda: es.judge(es.published_pairs().pairs)[0],
    "plan": lambda: es.plan(
        dim=10**9,
        budget=es.DriftBudget(max_norm=90),
        target_progress=0.05,
        reliability=0.3,
        choices=es.Choices(sigmas=(0.0015,)),
    ),
    "pilot": a_pilot,
    "ledger": lambda: es.ledger(*a_ledger()),
    "outlook": lambda: es.outlook(*a_ledger()),
}


@pytest.fixture(params=sorted(RESULTS | TABLES))
def result(request):
    return (RESULTS | TABLES)[request.param]()


def test_a_result_prints_and_shows_as_its_tables(result):
    assert "─────" in str(result)
    page = result._repr_html_()
    assert page.count("<table>") == page.count("</table>") >= 1
    assert "| ---" in result._repr_markdown_()
    for text in (str(result), page, repr(result)):
        assert "<lambda" not in text
        assert " at 0x" not in text


def test_a_data_frame_holds_the_rows_of_the_document(result):
    pytest.importorskip("pandas")
    frame = result.to_frame()
    assert len(frame) >= 1
    assert {"quantity", "earned", "evaluations"} & set(frame.columns)


@pytest.mark.parametrize("name", sorted(RESULTS))
def test_a_figure_is_shown_and_written(name, tmp_path):
    pytest.importorskip("matplotlib")
    picture = RESULTS[name]().plot(tmp_path / "a.svg")
    assert b"<svg" in (tmp_path / "a.svg").read_bytes()
    assert picture._repr_png_().startswith(b"\x89PNG")
    width, _ = picture.figure.get_size_inches()
    assert width == 5  # text as large as in print on a phone


def test_without_pandas_or_matplotlib_the_error_names_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    forecast = RESULTS["forecast"]()
    with pytest.raises(MissingDependencyError, match="pip install pandas"):
        forecast.to_frame()
    with pytest.raises(MissingDependencyError, match=r"estheory\[plots\]"):
        forecast.plot()
    assert str(forecast)


def test_one_prediction_says_its_source_and_what_must_hold():
    prediction = TABLES["prediction"]()
    for text in (str(prediction), prediction._repr_html_(), prediction._repr_markdown_()):
        assert prediction.source in text
        assert all(assumption in " ".join(text.split()) for assumption in prediction.assumptions)


def test_html_escapes_what_names_hold():
    [pair, *_] = es.published_pairs().pairs
    verdicts = es.judge([(pair[0], es.Measurement(**{**vars(pair[1]), "where": "<script>&"}))])
    assert "<script>" not in verdicts._repr_html_()
    assert "&lt;script&gt;&amp;" in verdicts._repr_html_()


def test_a_tuple_of_verdicts_stays_one():
    verdicts = RESULTS["verdicts"]()
    assert isinstance(verdicts, tuple)
    assert verdicts.level == 0.05
    assert verdicts == tuple(verdicts)


def test_derivations_show_their_formulas():
    derivation = es.derive("norm-mean-square")
    assert "<lambda" not in repr(derivation)
    assert str(derivation).startswith(derivation.title)
    assert derivation._repr_markdown_().count("$$") == 2 * len(derivation.steps)
    assert derivation.python().startswith("def norm_mean_square(")
    assert "\\begin{enumerate}" in derivation.latex()


@pytest.mark.parametrize(
    ("quantity", "argument"),
    [
        (es.Quantity.PROGRESS_PER_STEP, "reward="),
        (es.Quantity.KL_DRIFT, "off_task="),
        (es.Quantity.NORM_RATIO, "grpo="),
        (es.Quantity.REWARD, "landscape="),
    ],
)
def test_what_was_not_predicted_names_the_argument_that_is_missing(quantity, argument):
    with pytest.raises(KeyError, match=argument):
        es.predict(RUN).get(quantity)


def test_the_named_arguments_do_bring_the_predictions():
    forecast = es.predict(
        RUN,
        checkpoints=(1, 10),
        reward=es.linear_signal(sigma=0.01, gradient_norm=2.0, reward_std=0.1),
        off_task=es.OffTask(fisher_trace=500.0),
        grpo=es.GRPOConfig(lr=1e-6, steps=10),
    )
    for quantity in ("checkpoint_cosine", "progress_per_step", "kl_drift", "norm_ratio"):
        assert forecast.get(es.Quantity.named(quantity)).law.mean


def test_every_cell_of_a_frame_is_one_value(result):
    document = view_of(result).document()
    assert json.dumps(document, default=str)
    from estheory.reporting.records import records

    assert all(isinstance(v, str | int | float | bool | None) for row in records(document) for v in row.values())
