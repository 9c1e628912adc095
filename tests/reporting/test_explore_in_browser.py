"""The what-if page in a real headless Chromium: its numbers, its links, its files, its screen."""

import json
import time

import pytest

from estheory.reporting.explore.controls import CONTROLS
from estheory.reporting.explore.page import explore_page
from tests.reporting import chromium
from tests.reporting import explore_settings as drawn
from tests.reporting.test_in_browser import COMPLAINTS, OVERFLOW, complaints

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium.PROGRAM is None, reason="no Chromium is installed"),
]
PILOT = {
    "schema": "estheory/pilot/1",
    "config": {"sigma": 0.002, "alpha": 0.001, "population": 16, "shaping": "zscore", "antithetic": True},
    "estimates": [
        {"quantity": "member_reward_std", "sigma": 0.002, "value": 0.13, "bound": None},
        {"quantity": "odd_variance", "sigma": 0.002, "value": 0.01, "bound": None},
        {"quantity": "smoothing_gap", "sigma": 0.002, "value": 0.02, "bound": None},
    ],
}


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with chromium.browser(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "explore.html"
    path.write_text(explore_page(), encoding="utf-8")
    return path


@pytest.fixture
def opened(tab, page):
    tab.show(width=1280)
    tab.open(page.as_uri())
    return tab


def text(tab, selector):
    return tab.value(f"document.querySelector({json.dumps(selector)}).textContent")


def typed(tab, name, value):
    tab.value(f"(field => {{ field.value = {json.dumps(value)}; field.dispatchEvent(new Event('input')); }})({name})")


def dropped(tab, content, name="pilot.json"):
    """Drop a file on the page, as the browser does, and wait until it was read."""
    tab.value("say('')")
    tab.value(f"""(() => {{ const data = new DataTransfer();
        data.items.add(new File([{json.dumps(content)}], {json.dumps(name)}));
        const drop = {{ dataTransfer: data, bubbles: true, cancelable: true }};
        document.dispatchEvent(new DragEvent("drop", drop)); }})()""")
    for _ in range(100):
        if said := text(tab, "#status") + text(tab, "#problem"):
            return said
        time.sleep(0.02)
    raise AssertionError("the page says nothing of the file")


def test_two_hundred_settings_are_those_of_predict(opened):
    settings = drawn.settings()
    expected = [drawn.python_numbers(setting) for setting in settings]
    found = opened.value(f"{json.dumps(settings)}.map(x => MODEL[x.shaping](x))")
    difference, name = drawn.worst_difference(expected, found)
    assert difference < 1e-9, name
    found[7]["displacement_norm_low"] *= 1 + 1e-8
    assert drawn.worst_difference(expected, found)[0] > 1e-9


def test_the_table_shows_the_model_s_numbers(opened):
    assert "173.69" in text(opened, "#rows")  # the paper's runs after 400 steps
    typed(opened, "steps", "100")
    assert "86.845" in text(opened, "#rows")
    assert "86.85" in text(opened, "#chart-norm .key")
    typed(opened, "steps", "0")
    assert opened.value("steps.getAttribute('aria-invalid')") == "true"
    assert "whole number from 1" in text(opened, "#problem")
    assert "86.845" in text(opened, "#rows")


def test_nothing_is_asked_of_the_network_and_nothing_goes_wrong(opened):
    opened.value("document.querySelectorAll('[data-preset]').forEach(button => button.click())")
    assert complaints(opened) == []
    requests = [e["params"]["request"]["url"] for e in opened.events if e.get("method") == "Network.requestWillBeSent"]
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
    assert COMPLAINTS


def test_a_link_keeps_the_state(opened, page):
    for name, value in (("dim", "3B"), ("sigma", "2e-3"), ("gap", "0.5")):
        typed(opened, name, value)
    opened.value(
        "(menu => { menu.value = 'population'; menu.dispatchEvent(new Event('change')); })"
        "(document.getElementById('axis-update'))"
    )
    table, link = text(opened, "#rows"), opened.value("location.href")
    opened.open(page.as_uri())
    assert text(opened, "#rows") != table
    opened.open("about:blank")
    opened.open(link)
    assert text(opened, "#rows") == table
    assert opened.value("document.getElementById('axis-update').value") == "population"
    opened.open("about:blank")
    opened.open(page.as_uri() + "#dim=nonsense&steps=7&shaping=none&update=<b>")
    assert "trainable parameters" in text(opened, "#problem")
    assert opened.value("[steps.value, dim.value]") == ["7", "4022468096"]


def test_a_pilot_is_dropped(opened):
    said = dropped(opened, json.dumps(PILOT))
    assert "pilot.json" in said
    assert "mirrored" in said
    names = ("sigma", "alpha", "population", "reliability", "member_std", "gap")
    state = opened.value("state")
    assert [state[name] for name in names] == [0.002, 0.001, 16, 0.01 / 0.13**2, 0.13, 0.02]
    assert state["dim"] == 4_022_468_096
    assert "assumed" not in said
    centreless = {**PILOT, "estimates": PILOT["estimates"][:2]}
    assert "still assumed" in dropped(opened, json.dumps(centreless), "second.json")
    assert opened.value("state.gap") == 0.02


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{", "not JSON"),
        ("[]", "estheory pilot --json"),
        ('{"schema": "estheory/pilot/1"}', "shaping"),
        (json.dumps({**PILOT, "estimates": []}), "do not differ"),
        (json.dumps({**PILOT, "config": {**PILOT["config"], "alpha": "<img src=x>"}}), "step size"),
    ],
)
def test_a_bad_file_is_one_line_and_changes_nothing(opened, content, why):
    before = opened.value("state")
    said = dropped(opened, content, "<i>bad</i>.json")
    assert said.startswith("error: cannot use <i>bad</i>.json: ")
    assert why in said
    assert "\n" not in said
    assert opened.value("state") == before
    assert complaints(opened) == []


def test_keys_move_a_slider(opened):
    opened.value("document.getElementById('population-slider').focus()")
    for kind in ("rawKeyDown", "keyUp"):
        opened.send("Input.dispatchKeyEvent", type=kind, key="ArrowRight", code="ArrowRight", windowsVirtualKeyCode=39)
    assert opened.value("state.population") == 31


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [320, 400, 1280])
def test_it_fits_the_screen(opened, width, dark, tmp_path):
    opened.show(width=width, dark=dark)
    assert opened.value(OVERFLOW) == 0
    assert opened.value("getComputedStyle(document.body).backgroundColor") == (
        "rgb(20, 23, 28)" if dark else "rgb(255, 255, 255)"
    )
    sizes = "[...document.querySelectorAll('svg text')].map(e => e.getBoundingClientRect().height)"
    assert min(opened.value(sizes)) >= 9
    out = """[...document.querySelectorAll('svg')].flatMap(svg => { const box = svg.getBoundingClientRect();
        return [...svg.querySelectorAll('text')].filter(e => { const r = e.getBoundingClientRect();
        return r.left < box.left - 1 || r.right > box.right + 1 || r.bottom > box.bottom + 2; })
        .map(e => e.textContent); })"""
    assert opened.value(out) == []


def test_every_control_has_a_name(opened):
    code = """[...document.querySelectorAll('input:not([hidden]), select')].filter(
        e => !(e.labels.length || e.getAttribute('aria-label'))).map(e => e.id)"""
    assert opened.value(code) == []
    assert opened.value("document.querySelectorAll('input[type=range]').length") == len(CONTROLS)


def test_without_javascript_it_says_so(tab, page):
    tab.send("Emulation.setScriptExecutionDisabled", value=True)
    try:
        tab.open(page.as_uri())
        root = tab.send("DOM.getDocument")["root"]["nodeId"]
        found = tab.send("DOM.querySelector", nodeId=root, selector="noscript p")["nodeId"]
        assert found
        assert tab.send("DOM.getBoxModel", nodeId=found)["model"]["height"] > 10
    finally:
        tab.send("Emulation.setScriptExecutionDisabled", value=False)
