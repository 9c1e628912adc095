"""The page: self-contained, escaped, verdicts first, sound HTML."""

import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from estheory.quantities import Quantity
from estheory.reporting.page.page import Section, Table, html_page
from estheory.reporting.page.style import STYLE
from estheory.reporting.page.weight_sections import cosine_sentence
from estheory.reporting.text.verdicts import says
from tests.reporting import sample

VOID = {"meta", "link", "br", "wbr", "hr", "img", "input"}
HOSTILE = "</td></style><script src=http://evil.example/x.js>alert(1)</script><img onerror='x'> & \"q\" \x00\ud800"
SHOWN = HOSTILE.replace("\x00", "\N{REPLACEMENT CHARACTER}").replace("\ud800", "\N{REPLACEMENT CHARACTER}")


class Page(HTMLParser):
    """Elements with their attributes and ancestors, and the text of each."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.stack, self.elements, self.text, self.declaration = [], [], {}, ""
        self.feed(html)
        self.close()
        assert not self.stack, f"left open: {self.stack}"

    def handle_decl(self, decl):
        self.declaration = decl

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs), f"repeated attribute in <{tag}>"
        self.elements.append((tag, dict(attrs), [self.elements[i][0] for i in self.stack]))
        if tag not in VOID:
            self.stack.append(len(self.elements) - 1)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.elements[self.stack[-1]][0] == tag, f"</{tag}> closes <{self.elements[self.stack[-1]][0]}>"
        self.stack.pop()

    def handle_data(self, data):
        for index in self.stack:
            self.text[index] = self.text.get(index, "") + data

    def texts(self, tag):
        return [self.text.get(i, "") for i, element in enumerate(self.elements) if element[0] == tag]

    def attributes(self, name):
        return [attributes[name] for _, attributes, _ in self.elements if name in attributes]


@pytest.fixture(scope="module")
def html():
    return sample.page()


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def small(verdicts=(), plain=(), sections=(), title="title", summary="summary"):
    return html_page(title=title, summary=summary, verdicts=verdicts, plain=plain, level=0.05, sections=sections)


def external(html):
    """Return whatever in the page would be loaded from outside it."""
    parsed = Page(html)
    found = [v for name in ("src", "srcset", "action", "data", "poster") for v in parsed.attributes(name)]
    found += [v for name in ("href", "xlink:href") for v in parsed.attributes(name) if not v.startswith(("#", "data:"))]
    found += re.findall(r"url\((?!#)[^)]*\)|@import[^;]*|https?://\S+", html)
    return found + [tag for tag, _, _ in parsed.elements if tag in ("script", "iframe", "object", "embed", "base")]


def test_page_refers_to_nothing_outside(html):
    assert external(html) == []


@pytest.mark.parametrize(
    "part",
    [
        "<script>1</script>",
        "<img src=x>",
        '<a href="http://a.b">c</a>',
        "<style>@import 'x'; p {color: url(x)}</style>",
    ],
)
def test_a_reference_would_be_found(html, part):
    assert external(html.replace("</main>", part + "</main>"))


def test_document_is_sound(page):
    assert page.declaration == "DOCTYPE html"
    tags = Counter(tag for tag, _, above in page.elements if "svg" not in above)
    assert tags["h1"] == tags["main"] == tags["title"] == 1
    assert page.elements[0][:2] == ("html", {"lang": "en"})
    assert any(a.get("name") == "viewport" and "width=device-width" in a["content"] for _, a, _ in page.elements)
    ids = Counter(page.attributes("id"))
    assert max(ids.values()) == 1
    assert set(page.attributes("aria-labelledby")) <= ids.keys()
    assert all(a.get("scope") for tag, a, _ in page.elements if tag == "th")
    assert page.texts("h2") == ["Verdicts", *(title for title, _ in sample.SECTIONS.values()), "What was judged"]


def test_policy_forbids_scripts_and_network(page):
    (policy,) = [a["content"] for _, a, _ in page.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy.split("; ") == ["default-src 'none'", "style-src 'unsafe-inline'", "img-src data:"]


def test_same_input_gives_the_same_page(html):
    assert sample.page() == html


def test_verdict_table_comes_first_and_names_every_kind(page):
    verdicts, plain = sample.judged()
    order = [tag for tag, _, _ in page.elements if tag in ("h2", "table", "svg")]
    assert order[:2] == ["h2", "table"]
    rows = page.texts("tr")[1 : len(verdicts) + 1]
    for row, verdict, alone in zip(rows, verdicts, plain, strict=True):
        assert row[1:].startswith(says(verdict))  # in words, not in colour alone
        assert row.endswith(says(alone))
        assert str(verdict.prediction.quantity) in row
        assert verdict.measurement.where in row
    assert {v.kind for v in verdicts} == {"consistent", "refuted", "underpowered"}
    counts = Counter(v.kind for v in verdicts)
    assert [item[1:] for item in page.texts("li")] == [
        f"{counts[kind]} {kind}" for kind in ("consistent", "refuted", "underpowered")
    ]


def test_table_gives_prediction_measurement_ratio_and_pvalue():
    verdicts, plain = sample.judged()
    parsed = Page(small(verdicts, plain))
    cells = parsed.texts("td")
    width = len(parsed.texts("th"))
    row = next(i for i, v in enumerate(verdicts) if v.prediction.quantity is Quantity.KL_DRIFT)
    alone = plain[row]
    expected = ["100", "0.42 ± 0.11", "0.366 ± 0.031", "0.8714", "0.64", f"?{says(alone)}"]
    assert cells[row * width + 3 : (row + 1) * width] == expected
    banded = next(i for i, v in enumerate(verdicts) if v.prediction.systematic)
    assert cells[banded * width + 4] == "0.66 ± 10 %"


def test_without_bands_there_is_no_column_for_them():
    verdicts = [v for v in sample.judged()[0] if not v.prediction.systematic]
    assert "without band" not in small(verdicts, verdicts)
    assert "without band" in small(*sample.judged())


def test_nothing_judged_is_said():
    html = small()
    assert "No prediction was judged." in html
    assert "<table>" not in html


def test_verdicts_and_plain_must_pair():
    verdicts, plain = sample.judged()
    with pytest.raises(ValueError, match="zip"):
        small(verdicts, plain[:-1])


def test_hostile_text_stays_text():
    verdict = sample.judged()[0][0]
    hostile = replace(
        verdict,
        prediction=replace(verdict.prediction, source=HOSTILE, assumptions=(HOSTILE,)),
        measurement=replace(verdict.measurement, where=HOSTILE, source=f"{HOSTILE}2"),
    )
    table = Table(header=(HOSTILE, ">" + HOSTILE), rows=((HOSTILE, HOSTILE),))
    section = Section(title=HOSTILE, sentence=HOSTILE, table=table)
    html = small([hostile], [hostile], [section], title=HOSTILE, summary=HOSTILE)
    html.encode()
    parsed = Page(html)
    assert not {"script", "img"} & {tag for tag, _, _ in parsed.elements}
    assert not parsed.attributes("onerror")
    assert parsed.texts("title") == parsed.texts("h1") == [SHOWN]  # no figure here, so no other title
    assert parsed.texts("h2")[1] == SHOWN
    assert parsed.texts("td")[2] == f"{SHOWN}, {SHOWN}2"
    assert parsed.texts("td")[-2:] == parsed.texts("th")[-2:] == [SHOWN, SHOWN]
    assert parsed.texts("dd")[-1].count(SHOWN) == 2


def test_summary_paragraphs_and_lines():
    parsed = Page(small(summary="one\ntwo\n\nthree"))
    assert parsed.texts("p")[:2] == ["one two", "three"]


def test_every_table_scrolls_in_a_box_that_the_keyboard_reaches(page):
    boxes = [a for tag, a, _ in page.elements if a.get("class") == "scroll"]
    assert len(boxes) == len(page.texts("table")) == 2
    assert all(a["tabindex"] == "0" and a["role"] == "group" for a in boxes)
    assert re.search(r"\.scroll \{[^}]*overflow-x: auto", STYLE)


def test_style_sheet_braces_match_and_know_dark_and_paper():
    assert STYLE.count("{") == STYLE.count("}")
    assert "prefers-color-scheme: dark" in STYLE
    assert "@media print" in STYLE


def test_a_source_that_its_place_names_is_not_repeated():
    verdict = sample.judged()[0][0]
    named = replace(verdict, measurement=replace(verdict.measurement, where="total:es", source="es"), pvalue=0.0)
    cells = Page(small([named], [named], [])).texts("td")
    assert cells[2] == "total:es"
    assert cells[-1] == "< 1e-300"


def test_many_verdicts_are_grouped_first_and_all_there():
    verdict = sample.judged()[0][0]
    few, many = [verdict] * 30, [verdict] * 31
    assert "<details>" not in small(few, few, [])
    html = small(many, many, [])
    assert "<summary>All 31 verdicts, one by one</summary>" in html
    assert html.index("worst ratio") < html.index("<details>")
    assert html.split("<details>")[1].count("<tr>") == 32


def test_the_tally_counts_single_tensors_that_the_table_leaves_out():
    verdicts, plain = sample.judged()
    tensor = next(v for v in verdicts if v.kind == "underpowered")
    tensor = replace(tensor, measurement=replace(tensor.measurement, where="tensor:es:some.weight"))
    parsed = Page(small([*verdicts, tensor], [*plain, tensor], []))
    count = sum(v.kind == "underpowered" for v in verdicts)
    assert f"?{count + 1} underpowered" in parsed.texts("li")
    assert len(parsed.texts("tr")) == 1 + len(verdicts)
    assert any(words.startswith("1 more are of single tensors") for words in parsed.texts("p"))


@pytest.mark.parametrize(("cosine", "word"), [(0.001, "inside"), (0.3, "outside"), (-0.3, "outside")])
def test_one_cosine_is_told_as_one(cosine, word):
    sentence = cosine_sentence({"es|grpo": cosine}, 10_000)
    assert f"of es and grpo is {cosine}, {word} ±0.02" in sentence
    assert "2 of 2" in cosine_sentence({"a|b": 0.001, "a|c": 0.002}, 10_000)
