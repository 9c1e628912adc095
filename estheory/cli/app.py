"""The program ``estheory``: subcommands imported when they are used, errors as one line, exit codes."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sys
from collections.abc import Sequence
from importlib import import_module
from itertools import takewhile
from typing import Annotated, Any, TextIO

import typer
from typer.core import TyperGroup

from estheory.errors import EstheoryError, Interrupted, did_you_mean
from estheory.files import FULL

COMMANDS = {
    "predict": "Closed-form geometry of one or many configurations.",
    "plan": "The inverse: which sigma, alpha, N and T meet a drift budget and a target.",
    "explore": "A what-if page: sliders and curves in one HTML file.",
    "derive": "A named result, derived symbolically: text, LaTeX, Python.",
    "simulate": "Monte Carlo on a quadratic landscape, judged against the closed forms.",
    "models": "List the built-in language models, or get one.",
    "run": "Fine-tune a causal language model by ES or GRPO, recorded for the theory.",
    "pilot": "One iteration's member rewards, of any code: will it learn, and with which sigma, alpha, N?",
    "probe": "Forward-only probes of a model on tasks, for predict and plan.",
    "forecast": "A run's ledger (what each update earned and paid), what comes next, when to stop.",
    "check": "An estimator of yours: does it keep its invariants, and if not, what is the likely fault?",
    "measure": "Geometry of checkpoints or of a run directory.",
    "validate": "Predictions against measurements: 'published', a run directory, or checkpoints.",
    "lines": "Rewards between two solutions and along their directions, predicted and judged.",
    "report": "One self-contained HTML page about runs: verdicts, then figures.",
    "demo": "The whole line on the embedded model, in minutes.",
}
"""Subcommands in the order of --help; each is the module of its name in estheory.cli."""

ClickException: type[Any] = typer.BadParameter.__mro__[2]  # the base of usage errors, whichever click typer carries


class LazyGroup(TyperGroup):
    """A command group that imports a subcommand's module only when it is called."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the subcommands."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the subcommand, or None if there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        return typer.main.get_command(import_module(f"estheory.cli.{cmd_name}").app)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the subcommands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


app = typer.Typer(
    cls=LazyGroup,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def _version(requested: bool) -> None:
    if requested:
        from importlib.metadata import version

        typer.echo(f"estheory {version('estheory')}")
        raise typer.Exit


def _cite(requested: bool) -> None:
    if requested:
        from estheory.citations import bibtex

        typer.echo(bibtex())
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    cite: Annotated[
        bool,
        typer.Option(
            "--cite",
            callback=_cite,
            is_eager=True,
            help="Show all BibTeX entries.",
        ),
    ] = False,
) -> None:
    """Explain and predict where Evolution Strategies take a language model."""


_EXTRAS = {"matplotlib": "plots", "ray": "ray", "hypothesis": "testing"} | dict.fromkeys(
    ("torch", "transformers", "safetensors", "tokenizers", "trl", "datasets", "accelerate", "gguf", "filelock"), "llm"
)
"""The extra that brings each optional package."""


def _fail(message: str, code: int) -> int:
    with contextlib.suppress(OSError):  # stderr on a full disk: the exit code still tells
        print("error: " + " ".join(message.split()), file=sys.stderr)
        sys.stderr.flush()
    return code


def _interrupted(go_on: str = "nothing was written; the same command starts over") -> int:
    with contextlib.suppress(OSError):
        print(f"interrupted: {go_on}", file=sys.stderr, flush=True)
    return 130


def _usage(error: Any, words: Sequence[str]) -> str:
    """Return what is wrong with a command line, the commands to choose from where one is missing, and whose help."""
    context: Any = getattr(error, "ctx", None)
    if context is None:  # an option without its value
        named = list(takewhile(lambda word: not word.startswith("-"), words))
        program = " ".join(["estheory", *named[: 2 if named[:1] in (["run"], ["models"]) else 1]])
    else:
        program = context.command_path
    what = _wrong_value(error, context) or _unknown_name(error, context) or error.format_message().rstrip(".")
    if what == "Missing command":
        what = f"{program} needs a command ({', '.join(context.command.list_commands(context))})"
    return f"{what}: see {program} --help"


def _unknown_name(error: Any, context: Any) -> str:
    """Return that there is no such option or command, and the nearest one; empty for another error."""
    if context is None:
        return ""
    if hasattr(error, "possibilities"):
        what, typed = f"No such option: {error.option_name}", error.option_name
        known = [option for parameter in context.command.params for option in parameter.opts]
    elif error.message.startswith("No such command "):
        typed = error.message.removeprefix("No such command '").partition("'")[0]
        what, known = f"No such command '{typed}'", context.command.list_commands(context)
    else:
        return ""
    hint = did_you_mean(typed, known).rstrip("? ")
    return what + (f"; {hint}" if hint else "")


def _wrong_value(error: Any, context: Any) -> str:
    """Return what is wrong with the value of an option, and the file it stands in; empty for another error."""
    parameter = getattr(error, "param", None)
    if context is None or parameter is None or not error.message or parameter.param_type_name != "option":
        return ""
    source = context.get_parameter_source(parameter.name)
    file = f"config file {context.params.get('config')}: " if source is not None and "MAP" in source.name else ""
    hint = ""
    if choices := getattr(parameter.type, "choices", ()):
        typed = error.message.removeprefix("'").partition("' is not one of ")[0]
        hint = did_you_mean(typed, choices).rstrip("? ")
    return f"{file}{parameter.opts[0]}: {error.message.rstrip('.')}" + (f"; {hint}" if hint else "")


def _abandon(stream: TextIO) -> None:
    """Let nothing more be written to a stream whose reader left, or whose disk is full."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _unread() -> int:
    """Return the exit code of a command whose reader left: there is nothing more to say."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            _abandon(stream)
    return 0


def _internal(error: Exception) -> int:
    if os.environ.get("ESTHEORY_DEBUG"):
        raise error
    return _fail(f"internal: {type(error).__name__}: {error}: please report it; ESTHEORY_DEBUG=1 shows where", 1)


def main(arguments: list[str] | None = None) -> int:
    """Run the program.

    `arguments`: what follows the program's name; those of the process when None.
    """
    try:
        width = min(shutil.get_terminal_size().columns, 80) - 2  # of help; click's own has at least 50 columns
        code = app(args=arguments, prog_name="estheory", standalone_mode=False, terminal_width=width)
        sys.stdout.flush()
        return _interrupted() if code == 130 else code if isinstance(code, int) else 0
    except EstheoryError as error:
        return _fail(str(error), 2)
    except Interrupted as error:
        return _interrupted(str(error))
    except (typer.Abort, KeyboardInterrupt):
        return _interrupted()
    except BrokenPipeError:
        return _unread()
    except SystemExit as leaving:
        if isinstance(leaving.__context__, BrokenPipeError):  # typer's own answer to it is exit code 1
            return _unread()
        raise
    except ClickException as error:
        return _fail(_usage(error, sys.argv[1:] if arguments is None else arguments), 2)
    except OSError as error:
        if error.filename is not None:
            return _fail(f"cannot use {error.filename} ({error.strerror}): check the path and its permissions", 2)
        if error.errno not in (*FULL, errno.EIO, errno.EBADF):
            return _internal(error)
        _abandon(sys.stdout)
        if error.errno == errno.EBADF:
            return _fail("stdout is closed: give --output", 2)
        return _fail(f"cannot write to stdout ({error.strerror}): free space, or give --output", 2)
    except MemoryError:
        return _fail("there is not enough memory: ask for less at a time", 2)
    except Exception as error:
        missing = (error.name or "").split(".")[0] if isinstance(error, ModuleNotFoundError) else ""
        if missing in _EXTRAS:
            return _fail(f"this needs the package {missing}: pip install 'estheory[{_EXTRAS[missing]}]'", 2)
        return _internal(error)


def run() -> None:
    """Console-script entry point."""
    if sys.stderr is None:  # closed by the caller
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if sys.stdout is None:  # so is this one: what is written to it is an error
        sys.stdout = open(os.open(os.devnull, os.O_RDONLY), "w", encoding="utf-8")  # noqa: SIM115
    code = main()
    try:
        sys.stderr.flush()
    except OSError:
        _abandon(sys.stderr)
    sys.exit(code)
