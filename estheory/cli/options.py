"""From dataclasses to the options of commands, and the help that shows them.

A group of options is a dataclass written for the command line, whose fields carry ``typer.Option``, or `ConfigOptions`:
fields of a configuration, declared where the configuration is. :func:`options` spreads groups into a command's
signature, which typer reads.
"""

# no postponed annotations: typer would have to evaluate each of them at every start

import copy
import dataclasses
import functools
import inspect
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from types import UnionType
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperCommand, TyperOption
from typer.models import OptionInfo

from estheory.cli import values
from estheory.cli.bars import bars
from estheory.cli.standard_input import STANDARD_INPUT, StandardInput
from estheory.errors import ConfigError, DataError, did_you_mean
from estheory.files import parse_toml, plainly

ANCHORS = "Anchor and momentum"
ROUNDING = "Rounding in 16 bits"
OFF_TASK = "Another task"
CURVATURE = "Curvature of the task"
GRADIENT = "A GRPO run to compare with"
GEOMETRY = "Comparison with gradient methods"
RECORDS = "Data, evaluation and records"
MACHINE = "Machine"
ANSWERS = "Answers"
VARIANTS = "Variants and controls"
HOURS = "Hours"
EVERY = "Every command"
FOLDED = (ANCHORS, ROUNDING, OFF_TASK, CURVATURE, GRADIENT, GEOMETRY, VARIANTS, ANSWERS, RECORDS, MACHINE, HOURS, EVERY)
"""Panels that --help shows as one line of names where a command has more than `SCREEN` options."""
SCREEN = 25

_PARSERS: dict[Any, Callable[[Any], Any]] = {
    float: values.number,
    int: values.count,
    tuple[float, ...]: values.numbers,
    tuple[int, ...]: values.counts,
    tuple[str, ...]: values.words,
}
_METAVARS: dict[Any, str] = {
    **dict.fromkeys((values.number, values.finite, values.level), "<number>"),
    values.count: "<count>",
    values.numbers: "<numbers>",
    **dict.fromkeys((values.counts, values.sizes), "<counts>"),
    values.words: "<list>",
}
_LISTS: dict[Any, Any] = {float: tuple[float, ...], int: tuple[int, ...]}


def _load_config(context: Any, parameter: Any, path: Path | None) -> Path | None:
    """Let a TOML file of options fill what the command line leaves unset."""
    if path is None or context.resilient_parsing:
        return path
    try:
        table = parse_toml(sys.stdin.buffer.read() if path == STANDARD_INPUT else path.read_bytes())
    except OSError as error:
        raise DataError(f"config file {path}: {error.strerror}", "check the path") from error
    except ValueError as error:
        raise DataError(f"config file {path} is not TOML: {plainly(error)}", "correct it") from error
    known = {p.name: p for p in context.command.params if p.name not in ("config", "help_all")}
    context.default_map = {
        (name := _known_name(key, known, path)): _toml_value(f"config file {path}: key '{key}'", value, known[name])
        for key, value in table.items()
    }
    return path


def _known_name(key: str, known: Mapping[str, Any], path: Path) -> str:
    names = {word.lstrip("-"): name for name, p in known.items() for word in (*p.opts, name, name.replace("_", "-"))}
    if key in names:
        return str(names[key])
    hint = did_you_mean(key, names).rstrip() or "keys are the names of the command's options"
    raise ConfigError(f"config file {path}: unknown key '{key}'", hint)


def _toml_value(what: str, value: Any, parameter: Any) -> Any:
    """Return a TOML value as the command line would have it: a flag as a boolean, anything else as text."""
    if getattr(parameter, "is_flag", False):
        if not isinstance(value, bool):
            raise ConfigError(f"{what} must be true or false, got {value!r}", "correct it")
        return value
    if isinstance(value, (bool, dict)) or "\0" in str(value):
        raise ConfigError(f"{what} has an unusable value {value!r}", "give a number, a text or a list")
    if parameter.nargs == -1:
        return [str(item) for item in value] if isinstance(value, list) else [str(value)]
    return ", ".join(str(item) for item in value) if isinstance(value, list) else str(value)


@dataclass(frozen=True, kw_only=True)
class CommonOptions:
    """What every subcommand takes."""

    panel: ClassVar[str] = EVERY

    json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")] = False
    output: Annotated[Path | None, typer.Option(help="Write the result to this file instead of stdout.")] = None
    config: Annotated[
        Path | None,
        typer.Option(help="TOML file of options; flags win.", callback=_load_config, is_eager=True),
    ] = None
    seed: Annotated[int | None, typer.Option(help="Seed of all random numbers (default 0).")] = None
    quiet: Annotated[bool, typer.Option("--quiet", help="Print no progress and no remarks on stderr.")] = False
    cite: Annotated[bool, typer.Option("--cite", help="Print BibTeX of the sources on stderr, after the result.")] = (
        False
    )

    @property
    def shows_progress(self) -> bool:
        """Whether bars are drawn: not when quiet, nor when stderr is no terminal."""
        return not self.quiet and sys.stderr.isatty()


Form = Literal["table", "markdown", "csv", "json"]


@dataclass(frozen=True, kw_only=True)
class TableOptions(CommonOptions):
    """What every command takes that prints tables."""

    format: Annotated[Form | None, typer.Option(help="How tables are written (default table)")] = None

    def __post_init__(self) -> None:
        if self.json and self.format not in (None, "json"):
            raise ConfigError(f"--json and --format {self.format} contradict one another", "give one of them")

    @property
    def form(self) -> Form:
        """How the result is to be written."""
        return "json" if self.json else self.format or "table"


@dataclass(frozen=True, kw_only=True)
class MeasureOptions:
    """How checkpoints are compared; shared by measure, validate and report."""

    panel: ClassVar[str] = "Checkpoints"

    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Measure what can be measured; warn of what cannot.")
    ] = False
    tied_head: Annotated[
        Literal["once", "twice"] | None,
        typer.Option(help="Count a tied output head once, or again as a state dict does (default once)"),
    ] = None

    @property
    def head_twice(self) -> bool:
        """Whether a tied output head counts twice."""
        return self.tied_head == "twice"


class ConfigOptions:
    """Some fields of a configuration as options; a command receives a mapping of those that were given.

    `config`: a dataclass. The metadata of a field may hold ``help``, ``metavar`` and ``option`` (its name on the
    command line, where it is not the field's).
    `panels`: names of its fields by the heading they stand under in --help, in the order of the help and of the rows
    that lists make.
    `lists`: whether number options take comma lists.
    `help`: by field, where a command says it differently.
    `complete`: by field, what the shell offers as its values.
    `defaults`: whether the help tells the defaults of the fields.
    """

    def __init__(
        self,
        config: type,
        panels: Mapping[str, Sequence[str]],
        *,
        lists: bool = False,
        help: Mapping[str, str] | None = None,
        complete: Mapping[str, Callable[[str], list[str]]] | None = None,
        defaults: bool = True,
    ) -> None:
        self._config, self._lists, self._defaults = config, lists, defaults
        self._help, self._complete = help or {}, complete or {}
        self._panels = {name: panel for panel, names in panels.items() for name in names}

    def parameters(self) -> list[inspect.Parameter]:
        """Return the parameters of the command."""
        hints, known = get_type_hints(self._config), {f.name: f for f in dataclasses.fields(self._config)}
        return [self._parameter(known[name], hints[name]) for name in self._panels]

    def _parameter(self, field: Any, hint: Any) -> inspect.Parameter:
        said = field.metadata
        inner = _inner(hint)
        text = self._help.get(field.name, said.get("help", ""))
        unset = field.default in (dataclasses.MISSING, None, False, 0, math.inf, "", ())
        info = typer.Option(
            f"--{said.get('option', field.name).replace('_', '-')}",
            help=text
            if unset or not self._defaults or "default" in text
            else f"{text[:-1]} (default {field.default}).",
            metavar=said.get("metavar"),
            rich_help_panel=self._panels[field.name],
            autocompletion=self._complete.get(field.name),
        )
        if inner is bool:
            return _parameter(field.name, bool, info, False)
        return _parameter(field.name, _LISTS.get(inner, inner) if self._lists else inner, info, None)

    def pack(self, given: dict[str, Any]) -> dict[str, Any]:
        """Return the fields that were given, out of all values of the command."""
        values = {name: given.pop(name) for name in self._panels}
        return {name: value for name, value in values.items() if value is not None and value is not False}


class _Declared:
    """The options of a dataclass that is written for the command line."""

    def __init__(self, group: Any) -> None:
        self._group = group

    def parameters(self) -> list[inspect.Parameter]:
        hints, panel = get_type_hints(self._group, include_extras=True), getattr(self._group, "panel", None)
        found = []
        for field in dataclasses.fields(self._group):
            hint, info = _split(hints[field.name])
            info.rich_help_panel = info.rich_help_panel or panel
            found.append(_parameter(field.name, hint, info, field.default or None if hint is not bool else False))
        return found

    def pack(self, given: dict[str, Any]) -> Any:
        values = {field.name: given.pop(field.name) for field in dataclasses.fields(self._group)}
        return self._group(**{name: value for name, value in values.items() if value is not None})


Group = type | ConfigOptions


def given_in(*groups: object) -> dict[str, Any]:
    """Return what was given in groups, by name, in their order."""
    given: dict[str, Any] = {}
    for group in groups:
        given |= group if isinstance(group, Mapping) else vars(group)
    return {name: value for name, value in given.items() if value is not None and value is not False and value != ()}


def options(*groups: Group) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of ``groups``; it receives each group as one of its first arguments.

    A dataclass arrives as its instance, `ConfigOptions` as a mapping of what was given.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        spread = [group if isinstance(group, ConfigOptions) else _Declared(group) for group in groups]
        own = list(inspect.signature(command, eval_str=True).parameters.values())[len(groups) :]

        @functools.wraps(command)
        def run(**given: Any) -> None:
            with StandardInput() as standard_input:
                given = {name: standard_input.named(name, value) for name, value in given.items()}
                packed = [group.pack(given) for group in spread]
                with ExitStack() as drawn:
                    for common in (group for group in packed if isinstance(group, CommonOptions)):
                        drawn.enter_context(bars(common.shows_progress))
                    command(*packed, **given)

        parameters = [_parameter(p.name, *_split(p.annotation), p.default) for p in own]
        parameters += [p for group in spread for p in group.parameters()]
        if not any(p.name == "out" for p in parameters):
            for output in (p for p in parameters if p.name == "output"):
                get_args(output.annotation)[1].param_decls = ("--output", "--out")  # one habit serves all commands
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # read by typer
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        return run

    return decorate


def _split(annotation: Any) -> tuple[Any, Any]:
    """Return the type of an annotated option and a copy of what typer knows of it."""
    hint, info = get_args(annotation)
    return hint, copy.copy(info)


def _inner(hint: Any) -> Any:
    """Return the type without ``| None``."""
    if get_origin(hint) in (Union, UnionType):
        [hint] = [part for part in get_args(hint) if part is not type(None)]
    return hint


def _parameter(name: str, hint: Any, info: Any, default: Any) -> inspect.Parameter:
    """Return a parameter whose values are parsed as its type says."""
    inner = _inner(hint)
    if info.parser is None and inner in _PARSERS:
        info.parser = _PARSERS[inner]
    if info.parser is not None:
        metavar, inner = _METAVARS[info.parser], str
    elif get_origin(inner) is Literal:
        metavar, choices = "<choice>", " | ".join(get_args(inner))
        said, mark, value = (info.help or "").removesuffix(".").partition(" (default ")
        info.help = f"{said}: {choices}{mark}{value}."
    else:
        metavar = "<path>" if inner is Path else "<text>"
    if isinstance(info, OptionInfo) and inner is not bool:
        info.metavar = info.metavar or metavar
    annotation = inner if default is not None else inner | None
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[annotation, info]
    )


class Command(TyperCommand):
    """A command whose --help groups options in panels, folds the rare ones and ends with an example to run."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._folds = len(self.params) > SCREEN
        self.params.append(
            TyperOption(
                param_decls=["help_all", "--help-all"],
                is_flag=True,
                is_eager=True,
                expose_value=False,
                callback=_show_all,
                help="Show this message with every option and exit.",
                hidden=not self._folds,
            )
        )

    def panels(self, context: Any) -> dict[str, list[Any]]:
        """Return the options by the heading of their panel, those without one first."""
        found: dict[str, list[Any]] = {"Options": []}
        for parameter in self.get_params(context):
            if parameter.param_type_name == "option":
                found.setdefault(getattr(parameter, "rich_help_panel", None) or "Options", []).append(parameter)
        return found

    def folded(self, context: Any) -> Sequence[str]:
        """Return the headings of the panels that are shown by the names of their options alone."""
        return FOLDED if self._folds and not context.meta.get("help_all") else ()

    def format_options(self, context: Any, formatter: Any) -> None:
        """Write arguments, then the panels, then what is folded."""
        room = {"col_max": min(30, formatter.width // 2)}
        arguments = [p.get_help_record(context) for p in self.get_params(context) if p.param_type_name == "argument"]
        if shown := [record for record in arguments if record]:
            with formatter.section("Arguments"):
                formatter.write_dl(shown, **room)
        folded = self.folded(context)
        panels = self.panels(context)
        for title in [t for t in panels if t not in folded and panels[t]]:
            with formatter.section(title):
                formatter.write_dl([record for p in panels[title] if (record := p.get_help_record(context))], **room)
        if rest := [title for title in panels if title in folded]:
            with formatter.section("More options, explained by --help-all"):
                for title in rest:
                    names = " ".join("/".join(p.opts) for p in panels[title])
                    lines = {"width": formatter.width, "break_on_hyphens": False, "subsequent_indent": " " * 6}
                    formatter.write(fill(f"{title}: {names}", initial_indent="  ", **lines) + "\n")

    def format_epilog(self, context: Any, formatter: Any) -> None:
        """Write the example as it is typed."""
        if self.epilog:
            with formatter.section("Example"):
                formatter.write("".join(f"  {line}\n" for line in self.epilog.splitlines()))


def _show_all(context: Any, parameter: Any, asked: bool) -> None:
    if asked and not context.resilient_parsing:
        context.meta["help_all"] = True
        typer.echo(context.get_help())
        raise typer.Exit


def program() -> typer.Typer:
    """Return the app of one command's module."""
    return typer.Typer(rich_markup_mode=None, add_completion=False)


def choice(name: str, text: str, choices: Sequence[str]) -> str:
    """Return the value of an option that is one of many words.

    `name`: of the option, without dashes in front, for the message.
    """
    if text not in choices:
        hint = f"{did_you_mean(text, choices)}choose one of {', '.join(choices)}"
        raise ConfigError(f"--{name} '{text}' is unknown", hint)
    return text
