"""The site, built strictly and opened in a browser: nothing from elsewhere, and nothing wider than the screen."""

import re
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.reporting.chromium import PROGRAM, browser

pytest.importorskip("mkdocs")
pytest.importorskip("matplotlib")
pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
FROM_ELSEWHERE = r"<(?:link|script|img|iframe|source|object)\b[^>]*\b(?:href|src|data)=[\"']?(?:https?:)?//"
TOO_WIDE = "document.documentElement.scrollWidth > document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return folder


def test_pages_ask_for_nothing_from_elsewhere(site):
    pages = [page.read_text(encoding="utf-8") for page in site.rglob("*.html")]
    assert len(pages) > 40
    assert not [found for page in pages for found in re.findall(FROM_ELSEWHERE, page)]
    assert re.search(FROM_ELSEWHERE, '<link rel="stylesheet" href="https://fonts.example/css">')
    assert not list(site.rglob("*.py"))


def test_links_resolve(site):
    for page in site.rglob("*.html"):
        if page.name == "404.html":  # its links are those of a server
            continue
        text = page.read_text(encoding="utf-8")
        for target, name in re.findall(r"(?:href|src)=\"?([^\"#:>\s]*)#?([^\">\s:]*)[\">\s]", text):
            other = (page.parent / unquote(target)).resolve() if target else page
            other = other / "index.html" if other.is_dir() else other
            assert other.is_file(), (page, target)
            if name and other.suffix == ".html":
                assert f'id="{unquote(name)}"' in other.read_text(encoding="utf-8"), (page, target, name)


def test_every_table_became_one(site):
    left = re.compile(r"<p>\|[ -]|\| ?---")
    assert not [page for page in site.rglob("*.html") if left.search(page.read_text(encoding="utf-8"))]
    assert left.search("<p>![a](b)\n| claim |\n|---|---|</p>")


def test_dialogs_have_names(site):
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.search(r'role="dialog"(?! aria-label)', text), page


def test_pages_are_light(site):
    assert not [page for page in site.rglob("*.html") if page.stat().st_size > 400_000]


@pytest.mark.skipif(PROGRAM is None, reason="needs a Chromium")
def test_the_search_works_from_a_folder(site, tmp_path):
    with browser(tmp_path) as tab:
        tab.show(width=1280)
        tab.open((site / "index.html").as_uri())
        tab.value("document.querySelector('[data-md-toggle=search]').click()")
        tab.value("document.querySelector('.md-search__input').focus()")

        def said(pattern):
            end = time.monotonic() + 60
            while not re.match(
                pattern, text := tab.value("document.querySelector('.md-search-result__meta').innerText")
            ):
                assert time.monotonic() < end, text
                time.sleep(0.2)

        said("Type to start")
        for letter in "reliab":
            tab.send("Input.dispatchKeyEvent", type="keyDown", text=letter, key=letter)
            tab.send("Input.dispatchKeyEvent", type="keyUp", key=letter)
        said(r"\d+ matching")
        assert tab.value("document.querySelector('.md-search-result__link').protocol") == "file:"


@pytest.mark.skipif(PROGRAM is None, reason="needs a Chromium")
@pytest.mark.parametrize("width", [390, 1280])
def test_pages_fit_the_screen_and_load_from_disk_alone(site, tmp_path, width):
    with browser(tmp_path) as tab:
        tab.show(width=width)
        for page in sorted(site.rglob("*.html")):
            if page.name == "404.html":  # its links are those of a server
                continue
            tab.open(page.as_uri())
            asked = [
                e["params"]["request"]["url"] for e in tab.events if e.get("method") == "Network.requestWillBeSent"
            ]
            assert all(url.startswith(("file:", "data:", "blob:")) for url in asked), (page, asked)
            assert not tab.value(TOO_WIDE), page
            assert tab.value("[...document.images].every(image => image.naturalWidth > 0)"), page
        tab.value("document.querySelector('article').insertAdjacentHTML('beforeend', '<p style=width:2000px>-</p>')")
        assert tab.value(TOO_WIDE)
