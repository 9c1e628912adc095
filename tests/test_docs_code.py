"""Every python block of the pages runs; those that need a finished run are held to imports that exist."""

import ast
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
IMPORTS_ONLY = {"how-to/real-runs.md": "reads the folder of a run that the page makes in minutes"}


def blocks(page: Path) -> list[str]:
    """Return the python blocks of a page."""
    return re.findall(r"^```python[^\n]*\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.M | re.S)


PAGES = {page.relative_to(DOCS).as_posix(): page for page in sorted(DOCS.rglob("*.md")) if blocks(page)}


@pytest.mark.parametrize("name", PAGES)
def test_python_blocks_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for code in blocks(PAGES[name]):
        tree = ast.parse(code)
        if name in IMPORTS_ONLY:
            if "estheory.measurement" in code:
                pytest.importorskip("torch")
            tree.body = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        exec(compile(tree, name, "exec"), names)


def test_what_is_not_run_is_still_there():
    assert set(IMPORTS_ONLY) <= set(PAGES)
