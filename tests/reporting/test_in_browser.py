"""The page in a real headless Chromium."""

import pytest

from tests.reporting import chromium, sample

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium.PROGRAM is None, reason="no Chromium is installed"),
]

OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
COMPLAINTS = {"Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled"}


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with chromium.browser(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.fixture(scope="module")
def html():
    return sample.page(title="estheory demo: " + "a_very_long_name_without_a_space" * 5)


@pytest.fixture
def opened(tab, html, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(html, encoding="utf-8")
    tab.show(width=390)
    tab.open(path.as_uri())
    return tab


def complaints(tab):
    tab.value("1")  # events sent before this answer have arrived
    return [event["params"] for event in tab.events if event.get("method") in COMPLAINTS]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 1100])
def test_body_never_scrolls_sideways(opened, width, dark, tmp_path):
    opened.show(width=width, dark=dark)
    assert opened.value("document.documentElement.clientWidth") == width
    assert opened.value(OVERFLOW) == 0
    opened.screenshot(tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 50_000  # an empty page has a tenth of that


def test_an_overflow_would_be_seen(opened):
    opened.value("document.querySelector('.scroll').style.overflow = 'visible'")
    assert opened.value(OVERFLOW) > 0


def test_wide_tables_scroll_in_their_own_box(opened):
    assert opened.value("(box => box.scrollWidth - box.clientWidth)(document.querySelector('.scroll'))") > 0


def test_no_complaint_and_no_request(opened):
    assert complaints(opened) == []
    requests = [e["params"]["request"]["url"] for e in opened.events if e.get("method") == "Network.requestWillBeSent"]
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []


@pytest.mark.parametrize("part", ["<script>document.title = 'run'</script>", "<img src='http://127.0.0.1:9/x.png'>"])
def test_policy_stops_scripts_and_loads_and_says_so(tab, html, part, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(html.replace("</main>", part + "</main>"), encoding="utf-8")
    tab.open(path.as_uri())
    assert any("Content Security Policy" in entry["entry"]["text"] for entry in complaints(tab))
    assert tab.value("document.title") != "run"


def test_figures_take_the_colours_of_the_screen(opened):
    code = """(() => { const style = e => getComputedStyle(document.querySelector(e));
        return [style('body').backgroundColor, style('body').color, style('svg text').fill]; })()"""
    opened.show(width=390, dark=False)
    light = opened.value(code)
    opened.show(width=390, dark=True)
    dark = opened.value(code)
    opened.show(width=700, dark=True, media="print")
    assert light[0] == "rgb(255, 255, 255)"
    assert dark[0] == "rgb(20, 23, 28)"
    assert light[1] == light[2] != dark[1] == dark[2]
    assert opened.value(code) == light  # paper is white, whatever the screen


def test_figure_text_is_legible_on_a_phone(opened):
    sizes = "[...document.querySelectorAll('svg text')].map(e => e.getBoundingClientRect().height)"
    assert min(opened.value(sizes)) >= 7


def test_figure_text_stays_inside_its_figure(opened):
    code = """[...document.querySelectorAll('svg')].flatMap(svg => { const box = svg.getBoundingClientRect();
        return [...svg.querySelectorAll('text')].filter(e => { const r = e.getBoundingClientRect();
        return r.left < box.left - 1 || r.right > box.right + 1 || r.top < box.top - 2 || r.bottom > box.bottom + 2; })
        .map(e => e.textContent); })"""
    assert opened.value(code) == []


def test_page_prints_and_fits_the_paper(opened, tmp_path):
    opened.show(width=680, media="print")  # 180 mm, A4 less its margins, at 96 pixels an inch
    assert opened.value(OVERFLOW) <= 0
    wide = "[...document.querySelectorAll('table')].filter(t => t.scrollWidth > 680).length"
    assert opened.value(wide) == 0
    opened.pdf(tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
