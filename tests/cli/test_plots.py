"""What --plot draws: curves, families, the front, forests, layers and modules."""

import numpy as np
import pytest

import estheory as es
from estheory.quantities import Quantity
from estheory.reporting.pictures.forecast import curve_steps, forecast_picture
from estheory.reporting.pictures.measurements import measurements_picture
from estheory.reporting.pictures.verdicts import verdicts_picture

pytest.importorskip("matplotlib")

PREDICT = ("predict", "--dim", "1e6", "--sigma", 0.01, "--steps", "10,100")


def lines_of(axes):
    return {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}


def test_curves_are_smooth_and_end_at_the_last_step():
    steps = curve_steps(400, (100, 200))
    assert steps[0] == 1
    assert steps[-1] == 400
    assert {100, 200} <= set(steps)
    assert len(steps) > 50


def test_a_family_is_a_curve_each_with_the_bound_on_its_signal():
    steps = curve_steps(100, (100,))
    family = {
        f"N {n}": es.predict(es.ESConfig(dim=10**6, sigma=0.01, population=n, steps=100), checkpoints=steps)
        for n in (8, 32)
    }
    figure = forecast_picture(family, (100,), 0.95).figure
    curves = lines_of(figure.axes[0])
    assert {"N 8", "N 32"} <= set(curves)
    means = curves["N 8"].get_ydata()
    assert means[-1] == family["N 8"].get(Quantity.DISPLACEMENT_NORM, 100).law.mean
    assert np.allclose(np.diff(means[[0, -1]] ** 2), means[-1] ** 2 - means[0] ** 2)
    assert any("signal" in label for label in curves)


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_predict_draws_families(estheory, tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    result = estheory(*PREDICT, "--population", "8,32", "--plot", path)
    assert result.code == 0, result.err
    assert path.stat().st_size > 1000


def test_more_curves_than_the_eye_tells_apart_are_refused(estheory, tmp_path):
    many = ",".join(map(str, range(2, 40)))
    result = estheory(*PREDICT, "--population", many, "--plot", tmp_path / "a.png")
    assert (result.code, result.out) == (2, "")
    assert not list(tmp_path.iterdir())


def verdict(ratio, kind_stderr=0.001):
    forecast = es.predict(es.ESConfig(dim=10**6, sigma=0.01, population=8, steps=10))
    p = forecast.get(Quantity.DISPLACEMENT_NORM)
    return p, es.Measurement(quantity=p.quantity, value=ratio * p.law.mean, stderr=kind_stderr, step=10)


def test_a_forest_shows_every_verdict_within_its_axes_and_one():
    verdicts = es.judge([verdict(0.999), verdict(30.0), verdict(1e-7), verdict(1.001, 1.0)])
    axes = verdicts_picture(verdicts).figure.axes[0]
    low, high = axes.get_xlim()
    assert low < 1 < high
    dots = [line for line in axes.lines if line.get_marker() in ("o", "X") and line.get_xdata().size == 1]
    assert len(dots) == len(verdicts)
    assert all(low <= line.get_xdata()[0] <= high for line in dots)
    assert {line.get_marker() for line in dots} == {"o", "X"}  # told apart without colours


def test_a_forest_of_nothing_says_so():
    with pytest.raises(es.ConfigError, match="no ratio"):
        verdicts_picture([])


def test_layers_stand_in_the_order_of_the_model():
    rows = [
        es.Measurement(quantity=Quantity.DISPLACEMENT_NORM, value=float(k), where=f"{level}:a:{name}")
        for level, names in (("layer", ["0", "10", "2"]), ("module", ["mlp.up_proj", "norm"]))
        for k, name in enumerate(names)
    ]
    above, below = measurements_picture(rows, ["a"]).figure.axes
    assert list(lines_of(above)["a"].get_xdata()) == [0, 2, 10]
    assert [label.get_text() for label in below.get_yticklabels()] == ["mlp.up_proj", "norm"]


def test_validate_draws_a_forest(estheory, tmp_path):
    result = estheory("validate", "published", "--plot", tmp_path / "a.svg")
    assert result.code == 3
    assert b"<svg" in (tmp_path / "a.svg").read_bytes()


def test_a_read_only_folder_is_one_line(estheory, tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda *_, **__: refuse())
    result = estheory(*PREDICT, "--population", 8, "--plot", tmp_path / "a.png")
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)
    assert "Permission denied" in result.err
    assert not list(tmp_path.iterdir())
