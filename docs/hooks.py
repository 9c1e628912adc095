"""Pages and figures that the build of the site makes from the code and from experiments/ (a hook of mkdocs)."""

from __future__ import annotations

import re
from html import unescape
from os.path import dirname, relpath
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
EXPERIMENTS = ROOT / "experiments"
DATA = ROOT / "estheory" / "data"


def recorded_experiments() -> list[Path]:
    """Return the READMEs of the experiments whose record is committed, and that of the paper's settings."""

    def recorded(folder: Path) -> bool:
        shipped = DATA / f"{folder.name.replace('-', '_')}.csv"
        return shipped.exists() or any(p.suffix in {".json", ".csv", ".toml"} for p in folder.iterdir())

    return [readme for readme in sorted(EXPERIMENTS.glob("*/README.md")) if recorded(readme.parent)]


MADE = {
    "estheory/derivations/catalogue.py": "reference/equations.md",
    "estheory/reporting/explore/page.html": "explore.html",
}
"""Of what in the repository the build makes which page: links to the one become links to the other."""


def places() -> dict[Path, str]:
    """Return which files of the repository, outside docs/, have which page of the site."""
    experiments = {readme: f"validation/experiments/{readme.parent.name}.md" for readme in recorded_experiments()}
    made = {ROOT / source: page for source, page in MADE.items()}
    return {EXPERIMENTS / "README.md": "validation/experiments/index.md", **experiments, **made}


LINK = re.compile(r"\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s#:]+)(#[^)\s]*)?\)")


def for_the_site(markdown: str, source: Path, page: str) -> str:
    """Return the Markdown of a file of the repository as that of its page: links lead to pages of the site.

    What has no page, as the folder that draws a picture, is named without a link.
    """
    found = places()

    def link(match: re.Match[str]) -> str:
        target = (source.parent / match[2]).resolve()
        if not target.exists():
            return match[0]
        if target.is_relative_to(ROOT / "docs"):
            place: str | None = target.relative_to(ROOT / "docs").as_posix()
        else:
            place = found.get(target)
        return match[1] if place is None else f"[{match[1]}]({relpath(place, dirname(page))}{match[3] or ''})"

    return LINK.sub(link, markdown)


LONGEST_EQUATION = 120
"""Characters of sympy's line; what is longer is left to `estheory derive` and the concept page."""


def equation_math(equation: Any) -> str:
    """Return an equation as MathML, which browsers typeset by themselves; empty where it is too long."""
    from sympy.printing.mathml import mathml

    from estheory.derivations.printing import line_of

    if len(line_of(equation)) > LONGEST_EQUATION:
        return ""
    inner = mathml(equation, printer="presentation")
    return f'<math display="block">{inner}</math>'.replace("|", "&#124;")


def equation_index() -> str:
    """Return the page paper -> equation -> function, from the derivations themselves."""
    from estheory.derivations.catalogue import derivations

    rows = [
        "# Paper, equation, function",
        "",
        "Made at build time from the derivations: each is checked step by step in sympy and compared with the",
        "function that evaluates it, so a row here is what the code does. `estheory derive NAME` prints the steps;",
        "equations too long for a row are only there. c is c(N) of [signal](../concepts/signal.md), symbols are on",
        "[one page](../concepts/symbols.md).",
        "",
    ]
    sources: dict[str, list[str]] = {}
    for item in derivations().values():
        result = item.title + equation_math(item.steps[-1].equation)
        function = item.evaluator.name
        link = f"<autoref optional identifier='{function}'>`{function.removeprefix('estheory.')}`</autoref>"
        row = (result.replace("|", "\\|"), item.label, f"`{item.name}`<br>{link}")
        sources.setdefault(item.source, []).append(f"| {' | '.join(row)} |")
    for source, lines in sources.items():
        rows += [f"## {_source_heading(source)}", ""]
        rows += ["| result, equation | label | derivation, function |", "|---|---|---|", *lines, ""]
    return "\n".join(rows)


def what_if_page() -> str:
    """Return the page of sliders."""
    from estheory.reporting.explore.page import explore_page

    return explore_page()


def _source_heading(source: str) -> str:
    """Return a derivation's source as a link: to arXiv, or to the page of this project that derives it."""
    if source.startswith("arXiv:"):
        return f"[{source}](https://arxiv.org/abs/{source.removeprefix('arXiv:')})"
    page = re.fullmatch(r"ours: docs/(concepts/[\w-]+\.md)", source)
    if page is None:
        return source
    title = (ROOT / "docs" / page[1]).read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
    return f"Ours: [{title}](../{page[1]})"


def on_config(config: Any) -> Any:
    """Put the experiments' pages into the navigation's section Validation."""
    pages = [{"Overview": "validation/experiments/index.md"}]
    pages += [{_title(readme): f"validation/experiments/{readme.parent.name}.md"} for readme in recorded_experiments()]
    for section in config.nav:
        if "Validation" in section and isinstance(section["Validation"], list):
            section["Validation"].append({"Experiments": pages})
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages and figures that no file of docs/ holds."""
    for source, page in places().items():
        if source.is_relative_to(EXPERIMENTS):
            files.append(File.generated(config, page, content=source.read_text(encoding="utf-8")))
    files.append(File.generated(config, "reference/equations.md", content=equation_index()))
    files.append(File.generated(config, "explore.html", content=what_if_page()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Turn links to files of the repository, which work where it is browsed, into links to pages of the site."""
    uri = page.file.src_uri
    sources = {place: source for source, place in places().items()}
    if uri.startswith("validation/experiments/"):
        markdown = markdown.replace(" ± ", "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}")  # narrow cells would break there
    return for_the_site(markdown, sources.get(uri, ROOT / "docs" / uri), uri)


FORMULA = re.compile(r'<(span|div) class="arithmatex">\s*(?:\\\(|\\\[)(.*?)(?:\\\)|\\\])\s*</\1>', re.DOTALL)


def typeset(page: str) -> str:
    """Return a page whose LaTeX is MathML, which browsers typeset by themselves; an error of LaTeX ends the build."""
    from math_core import LatexToMathML

    converter = LatexToMathML()

    def mathml(formula: re.Match[str]) -> str:
        display = formula[1] == "div"
        math = converter.convert_with_local_state(unescape(formula[2]), displaystyle=display)
        return f'<div class="formula" tabindex="0">{math}</div>' if display else math  # scrolled by keys, too

    return FORMULA.sub(mathml, page)


def linked_roles(page: str) -> str:
    """Return a page whose roles, such as :func:`walk` in a docstring, are links: on the page, or to another one."""
    anchors = re.findall(r'id="(estheory\.[\w.]+)"', page)

    def link(match: re.Match[str]) -> str:
        name, code = match[1], f"<code>{match[1].removeprefix('estheory.')}</code>"
        here = {anchor for anchor in anchors if anchor == name or anchor.endswith(f".{name}")}
        if len(here) == 1:
            return f'<a href="#{here.pop()}">{code}</a>'
        return f'<autoref identifier="{name}" optional>{code}</autoref>' if "." in name else code

    return re.sub(r":(?:func|class|meth|mod|data|attr):<code>([\w.]+)</code>", link, page)


def on_page_content(html: str, page: Any, config: Any, files: Files) -> str:
    """Typeset formulas, and turn the roles of docstrings into links before references are resolved."""
    return linked_roles(typeset(html))


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Name the theme's search dialog for screen readers."""
    dialog = 'data-md-component="search" role="dialog"'
    return output.replace(dialog, f'{dialog} aria-label="Search"')


def on_post_template(output_content: str, template_name: str, config: Any) -> str:
    """Do the same on the page of what was not found."""
    return on_post_page(output_content, None, config)


def _title(readme: Path) -> str:
    match = re.match(r"# ([^:\n]+)", readme.read_text(encoding="utf-8"))
    return match[1] if match else readme.parent.name
