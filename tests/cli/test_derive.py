"""``estheory derive`` as users type it."""

import json
import re

import pytest

from estheory.derivations.catalogue import derivations


def test_list_names_every_result(estheory):
    result = estheory("derive", "--list")
    assert (result.code, result.err) == (0, "")
    assert [line.split()[0] for line in result.out.splitlines()] == list(derivations())
    document = estheory("derive", "--list", "--json").json()
    assert [row["name"] for row in document["derivations"]] == list(derivations())


def test_text_is_numbered_and_says_what_it_rests_on(estheory):
    out = estheory("derive", "progress").out
    numbers = [int(n) for n in re.findall(r"^(\d+)\. ", out, re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1))
    for part in ("Stein's lemma", "Assumptions", "Label      exact", "docs/concepts/signal.md", "α⋅c⋅ρ", "population"):
        assert part in out


def test_json(estheory):
    document = estheory("derive", "flat-variance", "--json").json()
    assert document["schema"] == "estheory/derivation/1"
    assert (document["name"], document["label"], document["source"]) == ("flat-variance", "exact", "arXiv:2604.01499")
    assert document["result"]["text"] == "alpha**2/N"
    assert document["result"]["latex"] == r"\frac{\alpha^{2}}{N}"
    assert document["steps"][-1]["equation"] == "Var Δ₁ = alpha**2/N"
    assert all(document[key] for key in ("title", "assumptions", "steps"))


def test_python_runs_where_only_numpy_and_scipy_are(estheory):
    source = estheory("derive", "flat-variance", "--format", "python").out
    space = {}
    exec(source, space)
    assert space["flat_variance"](alpha=0.3, population=8) == pytest.approx(0.09 / 8, rel=1e-15)
    assert source == estheory("derive", "flat-variance", "--json").json()["result"]["python"]


def test_latex(estheory):
    out = estheory("derive", "c-of-n", "--format", "latex").out
    assert r"\Gamma\left(\frac{N}{2}\right)" in out
    assert out.startswith(r"\subsection*{")


def test_output_and_config(estheory, tmp_path):
    path, config = tmp_path / "out.py", tmp_path / "derive.toml"
    config.write_text('format = "python"\nname = "kl-mean"\n')
    result = estheory("derive", "--config", config, "--output", path, "--quiet", "--seed", 1)
    assert (result.code, result.out, result.err) == (0, "", "")
    assert path.read_text().startswith("def kl_mean(variance, fisher_trace):")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["progres"], "did you mean progress"),
        (["nothing-like-it-at-all"], "no derivation is called"),
        ([], "which result"),
        (["progress", "--list"], "--list"),
        (["progress", "--format", "latx"], "'latex'"),
        (["progress", "--output", "no/such/folder/x"], "no/such/folder"),
        (["progress", "more"], "more"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(estheory, arguments, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = estheory("derive", *arguments)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    assert expected in result.err


def test_json_is_strict(estheory):
    for name in ("rounding-gain", "adamw-walk"):
        json.loads(estheory("derive", name, "--json").out, parse_constant=lambda value: pytest.fail(value))


@pytest.mark.parametrize(("word", "name"), [("walk", "adamw-walk"), ("norm-meen", "norm-mean"), ("barrier", "")])
def test_an_unknown_name_suggests_those_that_contain_the_word_or_look_alike(estheory, word, name):
    result = estheory("derive", word)
    assert result.code == 2
    assert name in result.err
    suggested = re.findall(r"did you mean (.*)\?", result.err)
    assert all(estheory("derive", other).code == 0 for text in suggested for other in text.split(" or "))


def test_out_is_output_where_a_command_has_no_out_of_its_own(estheory, tmp_path):
    assert estheory("derive", "--list", "--out", tmp_path / "a").code == 0
    assert estheory("derive", "--list", "--output", tmp_path / "b").code == 0
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_list_is_a_table_of_any_kind_and_one_result_is_not(estheory):
    assert estheory("derive", "--list", "--format", "csv").out.startswith("name,title,label,source\n")
    assert "| flat-variance |" in estheory("derive", "--list", "--format", "markdown").out
    assert estheory("derive", "--list", "--format", "json").json()["schema"] == "estheory/derivations/1"
    assert "$$" in estheory("derive", "flat-variance", "--format", "markdown").out
    for wrong in (("flat-variance", "--format", "csv"), ("--list", "--format", "latex")):
        assert estheory("derive", *wrong).code == 2
