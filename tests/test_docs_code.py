"""What the pages tell people to type, typed: every python block runs, and every `estheory` line of a bash block too.

What takes minutes or needs files of the reader's is held to less, and listed here: imports that exist, or options that
the program has (of `run`, a dry run).
"""

import ast
import re
import shlex
from pathlib import Path

import pytest
import typer

from estheory.cli.app import app, main

DOCS = Path(__file__).parents[1] / "docs"
IMPORTS_ONLY = {"how-to/real-runs.md": "reads the folder of a run that the page makes in minutes"}
RUN_FOR_REAL = "getting-started.md"  # its run takes seconds, and its verdict reads that run
PARSED_ONLY = {
    "demo": "minutes; tests/cli/test_demo.py",
    "models get": "downloads",
    "models merge": "names an adapter of the reader's; tests/models/test_merged.py",
    "run es --model smollm2-135m": "needs a model that is not shipped",
    "run es --resume": "reads a run of an earlier line",
    "run es --replay": "reads a run of an earlier line",
    "measure": "reads runs of earlier lines",
    "lines": "reads runs of earlier lines",
    "report": "reads runs of earlier lines",
    "validate runs/es": "reads a run of an earlier line",
    "validate tiny-lm step_20.safetensors": "names a checkpoint of the reader's",
    "validate tiny-lm A.safetensors": "names checkpoints of the reader's",
    "validate sequential_ES": "names a folder of other code",
    "validate es-ft-experiment": "names a folder of other code",
    "validate countdown_nccl_run": "names a folder of other code",
    "predict --model CHECKPOINT": "names a checkpoint of the reader's",
    "simulate --preset two-scale --replicas 2000": "six seconds",
    "simulate --preset two-scale --geometry": "fifteen seconds",
    "simulate --preset paper --dim 2000": "ten seconds; tests/simulation/test_rounded_direct.py",
}
JUDGES = ("simulate", "validate", "pilot", "check")
MACHINE = ("run", "validate")  # late digits of real runs are torch's and the machine's


def blocks(page: Path, *languages: str) -> list[str]:
    """Return the blocks of a page in these languages."""
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```(?:{'|'.join(languages)})[^\n]*\n(.*?)^```", text, flags=re.M | re.S)


def commands(page: Path) -> list[list[str]]:
    """Return the arguments of the `estheory` lines of a page, continued lines joined."""
    text = re.sub(r"\\\n\s*", " ", "".join(blocks(page, "bash", "console")))
    lines = re.findall(r"^(?:\$ )?estheory (.+)$", text, flags=re.M)
    return [shlex.split(line, comments=True) for line in lines]


def write_files(page: Path) -> None:
    """Write the files that a page shows: TOML under the name in its first line, and what `cat` would write."""
    for text in blocks(page, "toml"):
        Path(re.match(r"# (\S+)\n", text)[1]).write_text(text)
    for name, text in re.findall(r"^cat > (\S+) <<END\n(.*?)^END$", "".join(blocks(page, "bash")), flags=re.M | re.S):
        Path(name).write_text(text)


def parsed_only(argv: list[str]) -> str | None:
    """Return the entry of PARSED_ONLY that a command falls under."""
    return next((start for start in PARSED_ONLY if " ".join(argv).startswith(start)), None)


def parse(argv: list[str]) -> None:
    """Read a command line as the program does, and stop there."""
    command, rest = typer.main.get_command(app).get_command(None, argv[0]), argv[1:]
    while hasattr(command, "commands"):
        command, rest = command.commands[rest[0]], rest[1:]
    command.make_context(argv[0], rest)


PAGES = {page.relative_to(DOCS).as_posix(): page for page in sorted(DOCS.rglob("*.md"))}
PYTHON = [name for name, page in PAGES.items() if blocks(page, "python")]
BASH = [name for name, page in PAGES.items() if commands(page)]


@pytest.mark.parametrize("name", PYTHON)
def test_python_blocks_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for code in blocks(PAGES[name], "python"):
        tree = ast.parse(code)
        if name in IMPORTS_ONLY:
            if "estheory.measurement" in code:
                pytest.importorskip("torch")
            tree.body = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        exec(compile(tree, name, "exec"), names)


@pytest.mark.parametrize("name", BASH)
def test_commands_run(name, tmp_path, monkeypatch, capsys):
    if any(
        argv[0] in ("run", "models", "measure", "lines", "report", "demo", "check") for argv in commands(PAGES[name])
    ):
        pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    write_files(PAGES[name])
    for argv in commands(PAGES[name]):
        if parsed_only(argv):
            parse(argv)
            continue
        dry = ["--dry-run"] if argv[0] == "run" and name != RUN_FOR_REAL else []
        code = main([*argv, *dry])
        shown = capsys.readouterr()
        assert code in ((0, 3, 4) if argv[0] in JUDGES else (0,)), (argv, shown.err)
        if argv[0] not in MACHINE:
            assert not missing(shown_below(PAGES[name], argv), shown.out)


def shown_below(page: Path, argv: list[str]) -> list[str]:
    """Return the lines that a page shows as a command's output, but for rules and what is left out (`...`)."""
    text = page.read_text(encoding="utf-8")
    after = [*re.findall(r"^```bash\n(estheory .*?)```\n\n```text\n(.*?)```", text, flags=re.M | re.S)]
    for block in blocks(page, "console"):
        after += re.findall(r"^\$ (.*?[^\\])\n((?:[^$].*\n|\n)*)", block, flags=re.M)
    found = [output for line, output in after if shlex.split(line.replace("\\\n", " "))[1:] == argv]
    return [line for output in found for line in output.splitlines() if line.strip(" .─")]


def missing(lines: list[str], printed: str) -> list[str]:
    """Return the lines that are not among the printed ones; columns may be closer together."""
    there = {" ".join(line.split()) for line in printed.splitlines()}
    return [line for line in lines if " ".join(line.split()) not in there]


@pytest.mark.parametrize(
    ("name", "least"), [("getting-started.md", 10), ("how-to/plan.md", 7), ("how-to/derive.md", 12)]
)
def test_shown_output_is_found_and_a_wrong_line_of_it_noticed(name, least):
    lines = [
        line for argv in commands(PAGES[name]) for line in shown_below(PAGES[name], argv) if argv[0] not in MACHINE
    ]
    assert len(lines) >= least
    assert not missing(lines, "\n".join(lines))
    assert missing(lines, "\n".join(lines).replace("86.", "87.").replace("127,", "128,").replace("exact", "exactly"))


def test_the_home_page_quotes_its_first_command(capsys):
    page = PAGES["index.md"].read_text(encoding="utf-8")
    first = re.search(r"^```bash\nestheory .*?```\n\n((?:> [^\n]*\n)+)", page, flags=re.M | re.S)
    quoted = re.findall(r"^> (.*)$", first[1], flags=re.M)
    assert main(commands(PAGES["index.md"])[0]) == 0
    assert " ".join(" ".join(quoted).split()) in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("line", ["predict --dim 4e9 --simga 1", "validate --levle 0.1", "run es --stepz 3"])
def test_a_line_that_the_program_does_not_understand_is_noticed(line):
    if line.startswith("run"):
        pytest.importorskip("torch")
    with pytest.raises(Exception, match="No such option"):
        parse(line.split())


def test_what_is_not_run_is_still_there():
    assert set(IMPORTS_ONLY) <= set(PYTHON)
    assert RUN_FOR_REAL in BASH
    assert {parsed_only(argv) for name in BASH for argv in commands(PAGES[name])} - {None} == PARSED_ONLY.keys()
