"""What there is to cite: every source that the package names has an entry, and only what was used is printed."""

import re
from importlib.resources import files
from pathlib import Path

import pytest

import estheory
from estheory.citations import ENTRIES, METHODS, bibtex
from estheory.derivations.catalogue import derivations

ROOT = Path(estheory.__file__).parent
NAMED = re.compile(r"arXiv:\d{4}\.\d{4,5}")
OURS = re.compile(r"ours: (docs/[\w/-]+\.md)")


def sources():
    """Yield every source that the package's code, tables and derivations name."""
    for path in (*ROOT.rglob("*.py"), *ROOT.rglob("*.csv")):
        if path.name != "citations.py":
            yield from NAMED.findall(path.read_text(encoding="utf-8"))
    for derivation in derivations().values():
        yield from NAMED.findall(derivation.source)


def keys(text):
    return re.findall(r"^@\w+\{(\w+),$", text, flags=re.M)


def test_every_source_has_an_entry():
    named = set(sources())
    assert "arXiv:2604.01499" in named  # the walk finds some
    assert named - set(ENTRIES) == set()
    assert {source for parts in METHODS.values() for source in parts} <= set(ENTRIES)


def test_every_page_of_ours_exists():
    named = {page for path in ROOT.rglob("*.py") for page in OURS.findall(path.read_text(encoding="utf-8"))}
    assert len(named) > 5
    assert [page for page in sorted(named) if not (ROOT.parent / page).is_file()] == []


def test_entries_are_whole():
    every = keys(bibtex())
    assert every[0] == "estheory"
    assert len(every) == len(set(every)) == 1 + len(ENTRIES)
    for source, entry in ENTRIES.items():
        assert entry.count("{") == entry.count("}")
        assert f"arXiv preprint {source}" in entry
        assert " and others" not in entry
        assert all("," in author for author in re.search(r"author  = \{(.*)\},", entry)[1].split(" and "))


def test_only_what_was_used():
    assert keys(bibtex([])) == ["estheory"]
    assert keys(bibtex(["ours: docs/concepts/walk.md", "a public report"])) == ["estheory"]
    assert keys(bibtex(["arXiv:2605.30148 (es-awd notebook)"])) == ["estheory", "schweighofer2026forgetting"]
    forecast = estheory.predict(estheory.ESConfig(dim=1000, sigma=0.01, population=30))
    assert keys(bibtex(forecast.predictions)) == ["estheory", "hoy2026geometry"]
    progress = [p for p in forecast.predictions if p.source.startswith("ours")]
    assert progress
    assert keys(bibtex(progress)) == ["estheory"]


def test_the_citation_file_says_the_same():
    path = ROOT.parent / "CITATION.cff"
    if not path.is_file():
        pytest.skip("no checkout")
    text = path.read_text(encoding="utf-8")
    for word in ("Matching Accuracy", "Hoy", "Binxu", "arXiv:2604.01499", "estheory developers"):
        assert word in text
        assert word.removeprefix("Matching ") in bibtex()


def test_the_table_of_published_runs_is_walked():
    assert NAMED.search(files("estheory").joinpath("data/published_runs.csv").read_text(encoding="utf-8"))


RUN = ("--dim", "1e6", "--sigma", 0.01, "--population", 30)
COMMANDS = {
    "predict": (("predict", *RUN), ["hoy2026geometry"]),
    "one of ours": (("predict", *RUN, "--reliability", 0.3, "--explain", "progress_per_step"), []),
    "plan": (("plan", *RUN, "--reliability", 0.3, "--max-norm", 10, "--target-progress", 0.01), None),
    "derive": (("derive", "anchor-l2"), None),
    "published": (("validate", "published"), ["hoy2026geometry", "schweighofer2026forgetting"]),
    "models": (("models", "list"), []),
}


@pytest.fixture
def program(capsys):
    from estheory.cli.app import main

    def call(*arguments):
        code = main([str(a) for a in arguments])
        return code, *capsys.readouterr()

    return call


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_cites_what_it_used(program, name):
    arguments, expected = COMMANDS[name]
    plain_code, plain, _ = program(*arguments)
    code, out, err = program(*arguments, "--cite")
    assert (code, out) == (plain_code, plain)
    found = keys(err)
    assert found[0] == "estheory"
    if expected is not None:
        assert found[1:] == expected
    assert "@" not in program(*arguments)[2]


def test_a_run_cites_its_methods(program):
    pytest.importorskip("torch")
    code, _, err = program("run", "es", "--noise", "low-rank:2", "--steps", 1, "--dry-run", "--cite")
    assert (code, keys(err)) == (0, ["estheory", "qiu2025evolution", "salimans2017evolution", "sarkar2025hyperscale"])
    code, _, err = program("run", "grpo", "--steps", 1, "--dry-run", "--cite", "--json")
    assert (code, keys(err)) == (0, ["estheory", "shao2024deepseekmath", "loshchilov2017adamw"])


def test_alone_it_shows_everything(program):
    code, out, err = program("--cite")
    assert (code, err) == (0, "")
    assert out == bibtex() + "\n"
