"""Pages and figures that the build of the site makes from the code and from experiments/ (a hook of mkdocs)."""

from __future__ import annotations

import os
import re
import runpy
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from html import unescape
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parents[1]
EXPERIMENTS = ROOT / "experiments"
DATA = ROOT / "estheory" / "data"


def recorded_experiments() -> list[Path]:
    """Return the READMEs of the experiments whose record is committed, and that of the paper's settings."""

    def recorded(folder: Path) -> bool:
        shipped = DATA / f"{folder.name.replace('-', '_')}.csv"
        return shipped.exists() or any(p.suffix in {".json", ".csv", ".toml"} for p in folder.iterdir())

    return [readme for readme in sorted(EXPERIMENTS.glob("*/README.md")) if recorded(readme.parent)]


def experiment_page(readme: Path) -> str:
    """Return a README as a page of validation/experiments/: its links to docs/ and to other experiments stay links.

    What has no page, as the folder that draws a picture, is named without a link.
    """
    text = readme.read_text(encoding="utf-8").replace("](../../docs/", "](../../")
    text = text.replace(" ± ", "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}")  # narrow cells would break there
    pages = {other.parent.name for other in recorded_experiments()}
    link = re.compile(r"\[([^]]+)\]\((?:\.\./)?([\w-]+)/README\.md\)")
    return link.sub(lambda m: f"[{m[1]}]({m[2]}.md)" if m[2] in pages else m[1], text)


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


TERMINAL = 80
"""Columns of the recorded terminal."""


def typed(command: str) -> str:
    """Return what a command writes to a terminal, colours included."""
    ours, theirs = os.openpty()
    argv = [sys.executable, "-m", *shlex.split(command)]
    of_terminal = os.environ | {"COLUMNS": str(TERMINAL), "TERM": "xterm", "NO_COLOR": ""}
    with subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs, env=of_terminal) as process:
        os.close(theirs)
        with open(ours, "rb", buffering=0) as reading:
            output = b""
            try:
                while part := reading.read(4096):
                    output += part
            except OSError:  # Linux: the other end is closed
                pass
    if process.returncode:
        raise RuntimeError(f"{command} exits with {process.returncode}")
    return output.decode("utf-8").replace("\r\n", "\n")


TYPED = re.compile(r"```bash\n(estheory (?:predict|plan) .*?)\n```", re.DOTALL)
"""What the recorded terminal shows of the tour: the commands that need no model."""


def terminal(commands: Sequence[str]) -> str:
    """Return a terminal with the commands and what they write, run now, as SVG; its font is the reader's own."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        screen = Console(record=True, width=TERMINAL, file=nowhere)
        for command in commands:
            line = " \\\n".join(textwrap.wrap(f"$ {command}", TERMINAL - 2, subsequent_indent="    "))
            screen.print(Text(line, style="bold"))
            screen.print(Text.from_ansi(typed(command)))
    own_font = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    return screen.export_svg(title=f"{TERMINAL} columns", code_format=own_font)


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
    for readme in recorded_experiments():
        uri = f"validation/experiments/{readme.parent.name}.md"
        files.append(File.generated(config, uri, content=experiment_page(readme)))
    overview = experiment_page(EXPERIMENTS / "README.md")
    files.append(File.generated(config, "validation/experiments/index.md", content=overview))
    files.append(File.generated(config, "reference/equations.md", content=equation_index()))
    files.append(File.generated(config, "explore.html", content=what_if_page()))
    tour = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    shown = [" ".join(command.replace("\\\n", " ").split()) for command in re.findall(TYPED, tour)]
    files.append(File.generated(config, "terminal.svg", content=terminal(shown)))
    drawing = runpy.run_path(str(EXPERIMENTS / "main-result" / "make.py"))
    svg = drawing["figure"](drawing["published_rows"]() + drawing["own_rows"]())
    if (previous := files.get_file_from_path("main-result.svg")) is not None:
        files.remove(previous)
    files.append(File.generated(config, "main-result.svg", content=svg))
    concepts = runpy.run_path(str(ROOT / "docs" / "figures.py"))
    for name, picture in concepts["FIGURES"].items():
        files.append(File.generated(config, f"concepts/{name}.svg", content=concepts["svg"](picture())))
    return files


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


def _title(readme: Path) -> str:
    match = re.match(r"# ([^:\n]+)", readme.read_text(encoding="utf-8"))
    return match[1] if match else readme.parent.name
