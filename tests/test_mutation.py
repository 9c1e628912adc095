"""Mutation testing knows every module of the theory, and its page names each."""

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MUTATION = runpy.run_path(str(ROOT / "benchmarks/mutation.py"))
PAGE = ROOT / "docs/validation/mutation.md"


def test_every_module_has_tests_to_mutate_it_against():
    theory = {path.stem for path in (ROOT / "estheory/theory").glob("*.py")} - {"__init__"}
    assert set(MUTATION["TESTS"]) == theory | {"laws", "cosine_laws", "_special"}


@pytest.mark.parametrize("module", MUTATION["TESTS"])
def test_its_tests_exist_and_the_page_names_it(module):
    for name in [*MUTATION["FORMULAS"], *MUTATION["TESTS"][module]]:
        assert (ROOT / "tests" / name).is_file()
    assert f"`{module}`" in PAGE.read_text(encoding="utf-8")
