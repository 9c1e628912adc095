"""The pages that the site's build makes, and the links of the README."""

import re
import runpy
from os.path import normpath
from pathlib import Path
from xml.etree import ElementTree

import pytest

from estheory.derivations.catalogue import derivations

ROOT = Path(__file__).parents[1]


def test_the_figure_is_the_code_s_own():
    drawing = runpy.run_path(str(ROOT / "experiments/main-result/make.py"))
    svg = drawing["figure"](drawing["published_rows"]() + drawing["own_rows"]())
    assert svg == (ROOT / "docs/main-result.svg").read_text()
    ElementTree.fromstring(svg)
    assert 'class="bad"' in svg  # refuted rows are drawn, not left out


def test_experiments_with_a_record_become_pages_and_links_to_them_lead_there():
    pytest.importorskip("mkdocs")
    hooks = runpy.run_path(str(ROOT / "docs/hooks.py"))
    names = [readme.parent.name for readme in hooks["recorded_experiments"]()]
    assert {"first-line", "tiny-lm", "mean-field-error", "rounding-family"} <= set(names)
    assert "main-result" not in names
    places, for_the_site = hooks["places"](), hooks["for_the_site"]
    for source, page in places.items():
        text = source.read_text(encoding="utf-8") if source.suffix == ".md" else ""
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", for_the_site(text, source, page)):
            place = normpath(Path(page).parent / target)
            assert place in places.values() or (ROOT / "docs" / place).exists(), (page, target)
    overview = ROOT / "experiments/README.md"
    shown = for_the_site(overview.read_text(encoding="utf-8"), overview, "validation/experiments/index.md")
    assert "[single-task](single-task.md)" in shown
    assert "README.md" not in shown  # the folder that draws a picture has no page
    claim = for_the_site("[a](../../experiments/lines/README.md#b)", ROOT / "docs/validation/x.md", "validation/x.md")
    assert claim == "[a](experiments/lines.md#b)"


def test_equations_are_typeset():
    pytest.importorskip("mkdocs")
    index = runpy.run_path(str(ROOT / "docs/hooks.py"))["equation_index"]()
    assert all(f"`{name}`" in index for name in derivations())
    assert index.count("<math") > 40  # rows of wide equations have none
    assert "<mi>&#945;</mi>" in index
    assert "## Ours: [Signal](../concepts/signal.md)" in index
    assert not re.search(r"<mi>[^<]*(alpha|sigma|sqrt|gamma)", index)


def test_formulas_are_typeset():
    pytest.importorskip("mkdocs")
    math_core = pytest.importorskip("math_core")
    typeset = runpy.run_path(str(ROOT / "docs/hooks.py"))["typeset"]
    line = typeset(r'<p>a <span class="arithmatex">\(\alpha &lt; 1\)</span></p>')
    assert line.startswith("<p>a <math")
    assert "α" in line
    assert "arithmatex" not in line
    assert 'display="block"' in typeset('<div class="arithmatex">\n\\[\nx^2\n\\]\n</div>')
    with pytest.raises(math_core.LatexError):
        typeset(r'<span class="arithmatex">\(\frac{1\)</span>')


def test_no_formula_is_left_as_text():
    pages = [*(ROOT / "docs").glob("concepts/*.md"), *(ROOT / "docs").glob("how-to/*.md")]
    assert len(pages) > 20
    for page in pages:
        for block in re.findall(r"```text\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            assert not re.search("[α-ωΔΛΣ√²‖]", block), (page.name, block)


def test_roles_become_links():
    pytest.importorskip("mkdocs")
    linked = runpy.run_path(str(ROOT / "docs/hooks.py"))["linked_roles"]
    heading = '<h3 id="estheory.theory.walk.walk">walk</h3>'
    assert (
        linked(heading + ":func:<code>walk</code>")
        == heading + '<a href="#estheory.theory.walk.walk"><code>walk</code></a>'
    )
    elsewhere = '<autoref identifier="estheory.laws.Law" optional><code>laws.Law</code></autoref>'
    assert linked(":class:<code>estheory.laws.Law</code>") == elsewhere
    assert linked(":meth:<code>at</code>") == "<code>at</code>"  # which one is not said


def test_links_resolve_where_the_repository_is_browsed():
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "experiments").rglob("*.md")]
    assert len(pages) > 60
    for page in pages:
        text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)#:\s]+)[^)\s:]*\)", text):
            assert (page.parent / target).exists(), (page.relative_to(ROOT), target)
