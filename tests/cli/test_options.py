"""What every command offers: option types, panels of --help, examples, completion, files of options."""

import json
import re
import shlex

import pytest
import typer

from estheory.cli import values
from estheory.cli.app import app, main
from estheory.cli.options import SCREEN


def commands(command=None, words=()):
    """Yield the words and the object of every command."""
    command = command or typer.main.get_command(app)
    context = typer.Context(command)
    if not hasattr(command, "list_commands"):
        yield words, command
        return
    for name in command.list_commands(context):
        yield from commands(command.get_command(context, name), (*words, name))


ALL = {" ".join(words): command for words, command in commands()}


@pytest.mark.parametrize("name", ALL)
def test_help_fits_a_screen_and_hides_nothing(estheory, name):
    def shown(text):  # the options that have a line of their own
        return {line.split()[0].rstrip(",") for line in text.splitlines() if line.startswith("  --")}

    said, everything = estheory(*name.split(), "--help").out, estheory(*name.split(), "--help-all")
    listed = [p for p in ALL[name].params if p.param_type_name == "option" and not p.hidden]
    options = {o for p in listed for o in p.opts[:1] if o.startswith("--")}
    assert len(shown(said)) <= SCREEN
    assert options <= set(re.split(r"[\s,/]+", said))
    assert options <= shown(everything.out)
    assert everything.code == 0
    if "--help-all" not in options:
        assert options <= shown(said)


@pytest.mark.parametrize("name", ALL)
def test_help_tells_types_and_units_apart(name):
    for parameter in ALL[name].params:
        if parameter.param_type_name == "option" and not parameter.is_flag:
            assert parameter.help
            assert parameter.metavar.startswith("<")
            assert parameter.metavar != "<str>"


RUNS = ("run es", "run grpo", "run sequence")
RAN = ("predict", "plan", "derive", "simulate", "models list", "models get", "validate")


@pytest.mark.parametrize("name", [name for name in ALL if name in RAN])
def test_the_example_of_the_help_runs(estheory, name):
    program, *words = shlex.split(ALL[name].epilog)
    assert program == "estheory"
    assert " ".join(words).startswith(name)
    result = estheory(*words)
    assert result.code in ((0, 3, 4) if name in ("validate", "simulate") else (0,)), result.err
    assert result.out


@pytest.mark.parametrize("name", [name for name in ALL if name not in RAN])
def test_the_example_of_the_help_parses(estheory, name):
    """Those that train or need a run: what they say is understood, and runs are shown before they are run."""
    words = shlex.split(ALL[name].epilog)[1:]
    assert " ".join(words).startswith(name)
    if name in RUNS:
        pytest.importorskip("torch")
        result = estheory(*words, "--dry-run")
        assert (result.code, bool(result.out)) == (0, True), result.err
    else:
        command = ALL[name]
        command.make_context(name, words[len(name.split()) :])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3B", 3e9),
        ("1.5e9", 1.5e9),
        ("4,022,468,096", 4022468096),
        ("4_022_468_096", 4022468096),
        ("1.5M", 1.5e6),
        ("30k", 30e3),
        (" 2 ", 2),
    ],
)
def test_one_number_however_it_is_written(text, value):
    assert values.number(text) == values.count(text) == value
    assert values.numbers(text) == values.counts(text) == values.sizes(text) == (value,)


@pytest.mark.parametrize("text", ["0,001", "0,5", "1,05", "1,5e-3"])
def test_a_decimal_comma_is_refused_and_the_remedy_works(text):
    with pytest.raises(typer.BadParameter, match="decimal comma") as caught:
        values.number(text)
    assert values.number(caught.value.message.split()[-1].rstrip(".")) == float(text.replace(",", "."))


@pytest.mark.parametrize("text", ["0,001", "1,05"])
def test_a_list_with_a_decimal_comma_is_refused_and_both_remedies_work(text):
    for parse in (values.numbers, values.counts, values.sizes):
        with pytest.raises(typer.BadParameter, match="decimal comma") as caught:
            parse(text)
    one, many = re.search(r"Write (\S+), or '(.*)' with", caught.value.message).groups()
    assert values.numbers(one) == (float(text.replace(",", ".")),)
    assert values.numbers(many) == tuple(map(float, text.split(",")))


@pytest.mark.parametrize(("text", "one", "many"), [("1,5B", 1.5e9, (1, 5e9)), ("1,5e3", 1500, (1, 5000))])
def test_a_list_of_unequal_numbers_is_refused_as_a_decimal_comma(text, one, many):
    for parse in (values.numbers, values.counts, values.sizes):
        with pytest.raises(typer.BadParameter, match="decimal comma") as caught:
            parse(text)
        remedies = re.search(r"Write (\S+), or '(.*)' with", caught.value.message).groups()
        assert [parse(remedy) for remedy in remedies] == [(one,), many]


def test_lists_of_numbers():
    assert values.counts("1,5,10") == (1, 5, 10)
    assert values.numbers("1,2") == (1, 2)
    assert values.counts("30,1k") == (30, 1000)
    assert values.counts("30,128,256") == (30, 128, 256)
    assert values.numbers("1e-3, 2e-3") == (1e-3, 2e-3)
    assert values.sizes("1B,3B") == (10**9, 3 * 10**9)
    assert values.words("es,grpo") == ("es", "grpo")


@pytest.mark.parametrize("dim", ["1,543,714,304", "7,615,616,512"])
def test_a_size_that_may_be_a_list_is_refused_and_both_remedies_work(estheory, dim):
    def predicted(text):
        return estheory("predict", "--dim", text, "--sigma", "0.001", "--population", 30, "--json")

    refused = predicted(dim)
    assert (refused.code, refused.out) == (2, "")
    one, many = dim.replace(",", ""), dim.replace(",", ", ")
    assert one in refused.err
    assert f"'{many}'" in refused.err
    assert predicted(one).json()["config"]["dim"] == int(one)
    assert len(predicted(many).json()["rows"]) == 4


@pytest.mark.parametrize("dim", ["4,022,468,096", "3B", "3.0e9"])
def test_a_size_is_never_read_as_several_models(estheory, dim):
    document = estheory("predict", "--dim", dim, "--sigma", "0.001", "--population", 30, "--json").json()
    assert document["config"]["dim"] == values.count(dim)


@pytest.mark.parametrize(
    ("option", "text", "part"),
    [
        ("--sigma", "3x", "--sigma: '3x'"),
        ("--sigma", "1e-3,", "not a number"),
        ("--population", "2.5", "whole number"),
        ("--steps", ",".join(["1"] * 1001), "at most 200"),
        ("--level", "2", "between 0 and 1"),
    ],
)
def test_bad_values_name_the_option(estheory, option, text, part):
    known = {"--dim": "1e6", "--sigma": "0.001", "--population": "30"} | {option: text}
    result = estheory("predict", *(word for pair in known.items() for word in pair))
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"error: {option}")
    assert result.err.count("\n") == 1
    assert part in result.err


def test_rows_are_bounded(estheory):
    many = ",".join(f"{k}e-4" for k in range(1, 200))
    result = estheory("predict", "--dim", "1e6", "--sigma", many, "--alpha", many, "--population", 30)
    assert (result.code, result.out) == (2, "")
    assert "rows" in result.err


def test_a_config_file_is_read_as_the_command_line_and_flags_win(estheory, tmp_path):
    path = tmp_path / "options.toml"
    path.write_text('dim = "3B"\nsigma = [1e-3, 2e-3]\npopulation = 30\nlevel = 0.5\nantithetic = true\n')
    rows = estheory("predict", "--config", path, "--json").json()["rows"]
    assert [row["config"]["sigma"] for row in rows] == [1e-3, 2e-3]
    assert rows[0]["config"]["antithetic"] is True
    assert rows[0]["predictions"][0]["level"] == 0.5
    won = estheory("predict", "--sigma", 0.01, "--level", 0.9, "--config", path, "--json").json()
    assert (won["config"]["sigma"], won["predictions"][0]["level"]) == (0.01, 0.9)
    path.write_text('sigma = "3x"\n')
    result = estheory("predict", "--config", path)
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert str(path) in result.err
    assert "--sigma" in result.err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("predict --shaping ", {"zscore", "centered-rank", "raw", "two-point"}),
        ("predict --dtype b", {"bfloat16"}),
        ("predict --explain displacement_n", {"displacement_norm"}),
        ("derive flat-v", {"flat-variance"}),
        ("models get tin", {"tiny-lm"}),
        ("run es --task addi", {"addition"}),
        ("run es --model tiny", {"tiny-lm"}),
        ("run es --resume ", set()),
        ("plan --shap", {"--shaping"}),
    ],
)
def test_the_shell_completes_values(words, expected, monkeypatch, capsys):
    line = f"estheory {words}"
    monkeypatch.setenv("_ESTHEORY_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
    with pytest.raises(SystemExit):
        main([])
    said = capsys.readouterr()
    assert set(said.out.split()) >= expected
    assert said.err == ""


def test_an_option_of_another_command_is_unknown(estheory):
    result = estheory("plan", "--momentun", 1)
    assert (result.code, result.err.count("\n")) == (2, 1)
    near = estheory("plan", "--max-nrom", 1)
    assert "--max-norm" in near.err


def test_json_of_seed_and_config_on_every_command():
    for name, command in ALL.items():
        options = {o for p in command.params for o in p.opts}
        assert {"--json", "--output", "--config", "--seed", "--quiet", "--cite"} <= options, name


def test_lists_in_toml_keep_their_numbers_apart(estheory, tmp_path):
    path = tmp_path / "dims.toml"
    path.write_text("dim = [100, 200, 300]\nsigma = 0.1\npopulation = 4\n")
    document = json.loads(estheory("predict", "--config", path, "--json").out)
    assert [row["config"]["dim"] for row in document["rows"]] == [100, 200, 300]


@pytest.mark.parametrize(
    ("typed", "right"),
    [
        ("predcit", "predict"),
        ("run gpro", "grpo"),
        ("predict --dims 3", "--dim"),
        ("models get tiny-lm --sed 3", "--seed"),
    ],
)
def test_a_mistyped_command_or_option_names_the_nearest(estheory, typed, right):
    result = estheory(*typed.split())
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)
    assert f"did you mean '{right}'" in result.err


@pytest.mark.parametrize(
    ("line", "choice", "right"),
    [
        ("predict --dim 1e9 --sigma 0.001 --population 30 --shaping {}", "zscre", "zscore"),
        ("predict --dim 1e9 --sigma 0.001 --population 30 --dtype {}", "bfloat61", "bfloat16"),
        ("models list --format {}", "jsno", "json"),
    ],
)
def test_a_mistyped_choice_names_the_nearest(estheory, line, choice, right):
    result = estheory(*line.format(choice).split())
    assert result.code == 2
    assert f"did you mean '{right}'" in result.err
    assert estheory(*line.format(right).split()).code == 0
    assert "did you mean" not in estheory(*line.format("q").split()).err
