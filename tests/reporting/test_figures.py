"""Figures: valid, deterministic, accessible, and true to their data."""

import re
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest

from estheory.errors import ConfigError, MissingDependencyError
from estheory.reporting.page.figures import Band, Series, accuracy_bars, interpolation, norm_path, reward_path
from estheory.reporting.page.row_figures import cosines, tensor_ratios
from estheory.reporting.page.svg import NAMESPACE, WIDTH
from estheory.reporting.page.theme import DARK, LIGHT, SERIES
from tests.reporting import sample

SVG = f"{{{NAMESPACE}}}"
HOSTILE = "<script>alert('$x_1$')</script> & \"quoted\" \x01\ud800"
SHOWN = "<script>alert('$x_1$')</script> & \"quoted\" \N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}"


@pytest.fixture(scope="module")
def drawn():
    return sample.figures()


def texts(svg):
    return ["".join(element.itertext()) for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def vertices(svg, count):
    """Return the points of each drawn path of ``count`` straight pieces, shape (count, 2) each."""
    found = []
    for path in ElementTree.fromstring(svg).iter(f"{SVG}path"):
        numbers = re.findall(r"[ML] (\S+) (\S+)", path.get("d"))
        if len(numbers) == count and "z" not in path.get("d"):
            found.append(np.array(numbers, dtype=float))
    return found


@pytest.mark.parametrize("name", sample.SECTIONS)
def test_figure_is_valid_self_contained_and_described(drawn, name):
    svg = drawn[name]
    root = ElementTree.fromstring(svg)
    assert root.tag == f"{SVG}svg"
    assert root.get("role") == "img"
    assert root.get("viewBox").startswith(f"0 0 {WIDTH:g} ")
    title, description = root.find(f"{SVG}title").text, root.find(f"{SVG}desc").text
    assert title
    assert re.search(r"\d", description), "the description gives the figures in words"
    assert root.get("aria-label") == f"{title}. {description}"
    assert svg.replace(f'xmlns="{NAMESPACE}"', "").count("://") == 0
    assert not {"script", "style", "image", "metadata", "foreignObject"} & {
        e.tag.removeprefix(SVG) for e in root.iter()
    }


@pytest.mark.parametrize("name", sample.SECTIONS)
def test_references_resolve_inside_the_figure(drawn, name):
    root = ElementTree.fromstring(drawn[name])
    ids = [e.get("id") for e in root.iter() if e.get("id")]
    assert len(ids) == len(set(ids))
    used = {e.get("href").removeprefix("#") for e in root.iter() if e.get("href")}
    used |= set(re.findall(r"url\(#([^)]+)\)", drawn[name]))
    assert used == set(ids)


def test_ids_differ_between_figures(drawn):
    ids = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in drawn.values()]
    assert sum(map(len, ids)) == len(set().union(*ids)) > 0


@pytest.mark.parametrize("name", sample.SECTIONS)
def test_every_colour_follows_the_page(drawn, name):
    styles = re.findall(r'style="([^"]*)"', drawn[name])
    assert not [s for s in styles if "#" in re.sub(r"var\(--[\w-]+, #\w+\)|url\(#[^)]+\)", "", s)]
    assert all("fill: currentColor" in s for s in re.findall(r'<text style="([^"]*)"', drawn[name]))


def test_figures_are_the_same_in_another_process(drawn):
    code = "from tests.reporting import sample; import sys; sys.stdout.write(sample.figures('sequence')['sequence'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == drawn["sequence"]


def test_importing_figures_leaves_matplotlib_out():
    code = "import estheory.reporting.page.row_figures, sys; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_without_matplotlib_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingDependencyError, match=r"estheory\[plots\]"):
        reward_path(sample.reward_runs())


def test_hostile_names_become_text():
    steps = [1, 2]
    run = Series(label=HOSTILE, values=[0.1, 0.2], steps=steps)
    for svg in (
        norm_path([run]),
        reward_path([run]),
        interpolation(sample.line([0, 1], [0.1, 0.2], 0.0), start=HOSTILE),
        accuracy_bars([HOSTILE], [Series(label=HOSTILE, values=[0.5])]),
        tensor_ratios([HOSTILE, "b"], [1.0, 2.0], [0.9, 0.9], [1.1, 1.1]),
        cosines([HOSTILE], [0.5], 0.01),
    ):
        root = ElementTree.fromstring(svg.encode())
        assert root.find(f".//{SVG}script") is None
        if "Effective" not in svg:  # names nothing but tensors outside their interval
            assert SHOWN in root.get("aria-label") + root.find(f"{SVG}title").text
        assert any("<script>" in text for text in texts(svg))


def test_dollars_are_dollars():
    label = r"$x_1$ costs $\frac$"
    assert label in texts(reward_path([Series(label=label, values=[0, 1], steps=[1, 2])]))


def test_labels_that_begin_with_an_underscore_are_in_the_legend():
    assert "\N{ZERO WIDTH SPACE}_run" in texts(reward_path([Series(label="_run", values=[0, 1], steps=[1, 2])]))


def test_lines_lie_where_the_data_are():
    u, accuracy = np.linspace(0, 1, 5), np.array([0.3, 0.9, 0.2, 0.6, 0.5])
    svg = interpolation(sample.line(u, accuracy, 0.01))
    chord, line = vertices(svg, 5)
    assert np.ptp(np.diff(chord[:, 1])) < 1e-5, "the chord is straight"
    for drawn, data, sign in ((line[:, 0], u, 1), (line[:, 1], accuracy, -1)):  # SVG's y points down
        slope, offset = np.polyfit(data, drawn, 1)
        assert sign * slope > 0
        np.testing.assert_allclose(slope * data + offset, drawn, rtol=0, atol=1e-5)  # printed to 6 decimals


def test_bars_are_as_high_as_their_values():
    svg = accuracy_bars(
        ["a", "b"], [Series(label="before", values=[0.25, 0.75]), Series(label="after", values=[0.5, 1.0])]
    )
    heights = []
    for path in ElementTree.fromstring(svg).iter(f"{SVG}path"):
        if "opacity: 0.3" in path.get("style", ""):
            y = [float(value) for value in re.findall(r"[ML] \S+ (\S+)", path.get("d"))]
            heights.append(max(y) - min(y))
    np.testing.assert_allclose(np.array(heights) / heights[-1], [0.25, 0.75, 0.5, 1.0], rtol=0, atol=1e-6)
    assert {"0.25", "0.75", "0.50", "1.00", "0.0"} <= set(texts(svg))  # the axis begins at 0


def test_norm_path_shows_relative_distance_only_where_predicted():
    steps, norms = [1, 2, 3], np.array([1.01, 2.0, 2.97])
    band = Band(low=[0.98, 1.96, 2.94], mean=[1.0, 2.0, 3.0], high=[1.02, 2.04, 3.06])
    with_band = norm_path([Series(label="ES", values=norms, steps=steps, predicted=band)])
    without = norm_path([Series(label="ES", values=norms, steps=steps)])
    heading = "distance from the prediction, % (shaded: 95% interval)"
    assert heading in texts(with_band)
    assert heading not in texts(without)
    assert "predicted 3 (2.94 to 3.06)" in with_band
    lines = [v[:, 1] for v in vertices(with_band, 3) if np.ptp(v[:, 1]) > 0]
    slope, offset = np.polyfit(lines[1], [1.0, 0.0, -1.0], 1)  # +1 %, 0, -1 %: equal spacing
    np.testing.assert_allclose(slope * lines[1] + offset, [1.0, 0.0, -1.0], rtol=0, atol=1e-5)


def test_a_path_may_begin_at_step_zero():
    band = Band(low=[0.0, 0.9], mean=[0.0, 1.0], high=[0.0, 1.1])
    svg = norm_path([Series(label="ES", values=[0.0, 1.0], steps=[0, 1], predicted=band)])
    assert "nan" not in svg


@pytest.mark.parametrize("size", [20, 200])
def test_tensors_outside_their_interval_are_counted_marked_and_named(size):
    names = [f"model.layers.{i}.weight" for i in range(size)]
    ratios, low, high = np.ones(size), np.full(size, 0.9), np.full(size, 1.2)
    calm = tensor_ratios(names, ratios, low, high)
    assert f"0 of {size} tensors lie outside their 99% interval" in calm
    assert "outside" not in texts(calm)
    ratios[7], ratios[11] = 1.3, 0.8
    svg = tensor_ratios(names, ratios, low, high)
    expected = f"2 of {size} tensors lie outside their 99% interval: {names[7]} (1.3), {names[11]} (0.8)."
    assert expected in svg
    assert {"7", "11", "outside"} <= set(texts(svg))  # names without the parts that all share


def test_cosines_show_band_bound_and_values():
    svg = cosines(["a", "b"], [-0.031, 0.9], 0.004, [0.2, np.nan])
    assert {"unrelated directions: ±2/√d = ±0.008", "bound", "−0.031", "0.90"} <= set(texts(svg))
    assert "a: -0.031 (bound 0.2); b: 0.9." in svg
    assert "bound" not in texts(cosines(["a"], [0.1], 0.004))


@pytest.mark.parametrize(
    "draw",
    [
        lambda: reward_path([Series(label="a", values=[1, 2], steps=[1])]),
        lambda: reward_path([Series(label="a", values=[], steps=[])]),
        lambda: accuracy_bars(["a", "b"], [Series(label="x", values=[1])]),
        lambda: tensor_ratios(["a"], [1, 1], [0, 0], [2, 2]),
        lambda: cosines(["a", "b"], [0.1], 0.01),
        lambda: norm_path([]),
    ],
)
def test_columns_of_different_lengths_are_refused(draw):
    with pytest.raises(ConfigError):
        draw()


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return np.dot(linear, [0.2126, 0.7152, 0.0722])


def contrast(a, b):
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_contrast_meets_wcag_aa(palette):
    assert LIGHT.keys() == DARK.keys()
    for name in ("text", "muted", "good", "bad"):
        assert contrast(palette[name], palette["paper"]) >= 4.5, name
    for index in range(SERIES):
        assert contrast(palette[f"series-{index + 1}"], palette["paper"]) >= 3.0, index
