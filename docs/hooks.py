"""Pages and figures that the build of the site makes from the code and from experiments/ (a hook of mkdocs)."""

from __future__ import annotations

import re
import runpy
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


def experiment_page(readme: Path) -> str:
    """Return a README as a page of validation/experiments/: its links to docs/ and to other experiments stay links.

    What has no page, as the folder that draws a picture, is named without a link.
    """
    text = readme.read_text(encoding="utf-8").replace("](../../docs/", "](../../")
    pages = {other.parent.name for other in recorded_experiments()}
    link = re.compile(r"\[([^]]+)\]\((?:\.\./)?([\w-]+)/README\.md\)")
    return link.sub(lambda m: f"[{m[1]}]({m[2]}.md)" if m[2] in pages else m[1], text)


def equation_index() -> str:
    """Return the page paper -> equation -> function, from the derivations themselves."""
    from estheory.derivations.catalogue import derivations

    rows = [
        "# Paper, equation, function",
        "",
        "Made at build time from the derivations: each is checked step by step in sympy and compared with the",
        "function that evaluates it, so a row here is what the code does. `estheory derive NAME` prints the steps.",
        "",
    ]
    sources: dict[str, list[str]] = {}
    for item in derivations().values():
        title = item.title.replace("|", "\\|")
        function = item.evaluator.name.removeprefix("estheory.")
        sources.setdefault(item.source, []).append(f"| {title} | {item.label} | `{item.name}` | `{function}` |")
    for source, lines in sources.items():
        heading = f"[{source}](https://arxiv.org/abs/{source[6:]})" if source.startswith("arXiv:") else source
        rows += [f"## {heading}", "", "| result | label | derivation | function |", "|---|---|---|---|", *lines, ""]
    return "\n".join(rows)


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
    drawing = runpy.run_path(str(EXPERIMENTS / "main-result" / "make.py"))
    svg = drawing["figure"](drawing["published_rows"]() + drawing["own_rows"]())
    if (previous := files.get_file_from_path("main-result.svg")) is not None:
        files.remove(previous)
    files.append(File.generated(config, "main-result.svg", content=svg))
    return files


def _title(readme: Path) -> str:
    match = re.match(r"# ([^:\n]+)", readme.read_text(encoding="utf-8"))
    return match[1] if match else readme.parent.name
