"""Mutation testing knows every module of the theory, and its page names each."""

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[1]
MUTATION = runpy.run_path(str(ROOT / "benchmarks/mutation.py"))
PAGE = ROOT / "docs/validation/mutation.md"


def test_every_module_has_tests_to_mutate_it_against():
    folder = ROOT / "estheory/theory"
    files = [path.relative_to(folder).with_suffix("") for path in folder.rglob("*.py") if path.stem != "__init__"]
    theory = {".".join(file.parts) for file in files}
    assert set(MUTATION["TESTS"]) == theory | {"laws", "cosine_laws", "_special"}


def test_their_tests_exist():
    tables = (MUTATION["TESTS"], MUTATION["RUNS"])
    named = {*MUTATION["FORMULAS"], *(name for table in tables for names in table.values() for name in names)}
    assert [name for name in named if not (ROOT / "tests" / name).is_file()] == []


def test_the_page_names_every_module():
    text = PAGE.read_text(encoding="utf-8")
    assert [module for module in MUTATION["TESTS"] if f"`{module}`" not in text] == []
