"""What each experiment's folder holds, and that the commands it documents for the paper's model can be typed."""

import json
import os
import re
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest

from estheory.cli.app import LazyGroup, main
from tests.variants import variants

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
FOLDERS = sorted(path for path in EXPERIMENTS.iterdir() if (path / "README.md").is_file() and path.name != "paper")
MODEL = "Qwen3-4B-Instruct-2507"
BASH = re.compile(r"^```(?:bash)?\n(.*?)^```", flags=re.M | re.S)


def readme(folder):
    return (folder / "README.md").read_text(encoding="utf-8")


def at_scale(folder):
    return "\n".join(BASH.findall(readme(folder).split("## At the paper's scale\n")[1]))


SCALED = [folder for folder in FOLDERS if "## At the paper's scale\n" in readme(folder)]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_folder_has_a_command_its_settings_and_its_data(folder):
    text = readme(folder)
    assert folder.name in BASH.search(text)[1], "the first block is the command that makes it again"
    scripts = [path for path in folder.iterdir() if path.suffix in {".py", ".sh"}]
    code = "".join(path.read_text(encoding="utf-8") for path in scripts)
    settings = re.search(r"^\*\*Settings\*\*: (.*?)\n\n", text, flags=re.M | re.S)[1]
    for name in re.findall(r"`([A-Z_0-9]+)`", settings):
        assert re.search(rf"^(?:.*, )?{name}(?:, .*)?(?:: .*)? = ", code, flags=re.M), name
    for name in re.findall(r"`(\w+\.\w+)`", settings):
        assert (folder / name).is_file(), name
    elsewhere = {"rounding-family": "estheory/data/rounding_family.csv", "main-result": "docs/main-result.svg"}
    if folder.name in elsewhere:
        assert (EXPERIMENTS.parent / elsewhere[folder.name]).is_file()
    else:
        data = [path for path in folder.iterdir() if path.suffix in {".json", ".csv"}]
        assert data
        assert sum(path.stat().st_size for path in data) < 250_000


def test_the_index_names_every_folder_with_its_command():
    rows = {}
    for line in (EXPERIMENTS / "README.md").read_text(encoding="utf-8").splitlines():
        if match := re.match(r"\| \[([\w-]+)\]\(\1/README\.md\) \|", line):
            rows[match[1]] = line
    assert rows.keys() == {folder.name for folder in FOLDERS}
    for folder in FOLDERS:
        command = re.search(rf"`((?:python|sh) experiments/{folder.name}/[^`]*)`", rows[folder.name])[1]
        assert command in readme(folder)


def test_links_resolve():
    for page in sorted(EXPERIMENTS.rglob("README.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), (page, target)


def fake_data(name, config=None, split=None):
    """Rows of the form of the four data sets, more than are taken."""
    if name == "Jiayi-Pan/Countdown-Tasks-3to4":
        return [{"nums": [a, b, 3], "target": a + b + 3} for a in range(60) for b in range(60)]
    if name == "nlile/hendrycks-MATH-benchmark":
        rows = [{"problem": f"{k} + 1?", "answer": str(k + 1), "solution": "", "level": 1 + k % 5} for k in range(1200)]
        return {"train": rows[:600], "test": rows[600:]}
    if (name, config) == ("hicai-zju/SciKnowEval", "v2"):
        choices = {"label": list("ABCD"), "text": ["one", "two", "three", "four"]}
        return {
            "test": [
                {"domain": domain, "type": kind, "question": f"{domain} {k}", "choices": choices, "answerKey": "B"}
                for k in range(2300)
                for domain, kind in (
                    ("Chemistry", "mcq-4-choices"),
                    ("Biology", "mcq-4-choices"),
                    ("Chemistry", "open"),
                )
            ]
        }
    assert name == "google/boolq"
    rows = [{"passage": f"{k}.", "question": "is it even", "answer": k % 2 == 0} for k in range(4800)]
    return {"train": rows[:2400], "validation": rows[2400:]}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """The folder in which those commands are typed, with a small model under the name of the large one."""
    pytest.importorskip("torch")
    from estheory.models.builtin import get_builtin

    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(get_builtin("tiny-lm"), folder / MODEL)
    (folder / "experiments").symlink_to(EXPERIMENTS)
    runpy.run_path(str(EXPERIMENTS / "paper" / "data.py"))["write"](folder / "DATA", fake_data)
    return folder


def typed(block, checkout):
    """Return the arguments of each call of ``estheory`` that a block of shell makes."""
    stub = "set -eu\nestheory() { printf '%s\\037' \"$@\"; printf '\\n'; }\n"
    environment = {"PATH": os.environ["PATH"]}
    ran = subprocess.run(
        ["bash", "-c", stub + block], cwd=checkout, env=environment, capture_output=True, text=True, check=True
    )
    return [line.split("\037")[:-1] for line in ran.stdout.splitlines()]


def test_data_is_cut_as_the_paper_cuts_it(checkout):
    lines = {path.stem: len(path.read_text().splitlines()) for path in (checkout / "DATA").iterdir()}
    for task in ("countdown", "math", "chemistry", "boolq"):
        assert lines[f"{task}-train"] == 200
        assert lines[f"{task}-test"] == (500 if task == "math" else 2000)
    chemistry = (checkout / "DATA" / "chemistry-test.jsonl").read_text()
    assert "Biology" not in chemistry


def test_the_configurations_are_the_paper_s(checkout, monkeypatch, capsys):
    monkeypatch.chdir(checkout)
    monkeypatch.setattr("estheory.cli.run_preview._forecast", lambda *_: (None, ""))

    def resolved(method, *options):
        config = f"experiments/paper/{'sequence' if method == 'sequence' else options[0]}.toml"
        assert main(["run", method, "--config", config, *options[1:], "--dry-run", "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    both = resolved("sequence", "")["configs"]
    es = resolved("es", "es", "--task", "math", "--steps", "100")
    grpo = resolved("grpo", "grpo", "--task", "math")
    for name in ("sigma", "alpha", "population", "steps", "prompts", "train_set", "decode", "dtype", "update_path"):
        assert es[name] == both["es"][name], name
    for name in ("restore_pairs", "noise", "form", "evaluation_prompts"):
        assert es[name] == both["es"][name], name
    for name in ("lr", "schedule", "samples", "prompts", "steps", "dtype", "form", "evaluation_prompts"):
        assert grpo[name] == both["grpo"][name], name
    assert (es["sigma"], es["alpha"], es["population"], es["prompts"]) == (0.0015, 0.00075, 30, 200)
    assert (grpo["lr"], grpo["samples"], grpo["prompts"], grpo["steps"]) == (3e-6, 8, 63, 80)


def test_what_reproduces_the_paper_says_how():
    named = {"single-task", "tiny-sequence", "lines", "refutable", "walk-scaling", "rise-then-decay", "smollm2-es"}
    assert {folder.name for folder in SCALED} == named | {"precision-runs", "precision-finetuning"}
    assert all("\n## Beside the paper\n" in readme(folder) for folder in SCALED)


def parse(name, arguments):
    """Parse the options of a subcommand without running it; raises where they cannot be parsed."""
    LazyGroup().get_command(None, name).make_context(name, list(arguments))  # click takes the list apart


MANY_COMMANDS = ("rise-then-decay", "walk-scaling")


@pytest.mark.parametrize(
    "folder",
    variants(SCALED, fast=[folder for folder in SCALED if folder.name not in MANY_COMMANDS]),
    ids=lambda folder: folder.name,
)
def test_commands_at_the_paper_s_scale(folder, checkout, monkeypatch, capsys):
    """Options, configuration files, model, data and folders; what a dry run predicts is left to the slow test."""
    monkeypatch.chdir(checkout)
    monkeypatch.setattr("estheory.cli.run_preview._forecast", lambda *_: (None, ""))
    commands = typed(at_scale(folder), checkout)
    made = []
    for name, *arguments in commands:
        if name == "run":
            made.append(arguments[arguments.index("--out") + 1])
            assert main([name, *arguments, "--dry-run"]) == 0, capsys.readouterr().err
            continue
        parse(name, arguments)
        for end in (argument for argument in arguments if argument.startswith("runs/")):
            assert any(f"{end}/".startswith(f"{out}/") for out in made), f"no command before makes {end}"
    assert made
    assert len(made) == len(set(made))
    assert not (checkout / "runs").exists()


@pytest.mark.slow
@pytest.mark.parametrize("folder", SCALED, ids=lambda folder: folder.name)
def test_what_they_predict(folder, checkout, monkeypatch, capsys):
    monkeypatch.chdir(checkout)
    for command in typed(at_scale(folder), checkout):
        if command[0] in ("run", "predict"):
            assert main([*command, *(["--dry-run"] if command[0] == "run" else [])]) == 0, capsys.readouterr().err


def test_a_command_that_cannot_be_typed_is_told(checkout, monkeypatch, capsys):
    """The control of the test above."""
    monkeypatch.chdir(checkout)
    line = "for x in es; do estheory run $x --config experiments/paper/es.toml --sgma 1 --out a; done"
    [command] = typed(line, checkout)
    assert main([*command, "--dry-run"]) == 2
    assert "--sgma" in capsys.readouterr().err
    with pytest.raises(Exception, match="sgma"):
        parse("validate", ["runs/a", "--sgma", "1"])
