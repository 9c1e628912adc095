"""Options that commands share: declared once as dataclasses, spread into a command's signature by :func:`options`."""

from __future__ import annotations

import difflib
import functools
import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from estheory.errors import ConfigError, DataError
from estheory.parsing import parse_toml


@dataclass(frozen=True, kw_only=True)
class CommonOptions:
    """What every subcommand takes."""

    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else there.")] = False
    output: Annotated[Path | None, typer.Option(help="Write the result to this file instead of stdout.")] = None
    config: Annotated[Path | None, typer.Option(help="TOML file of options; flags win.")] = None
    seed: Annotated[int | None, typer.Option(help="Seed of everything random (default 0).")] = None
    quiet: Annotated[bool, typer.Option("--quiet", help="No narration on stderr.")] = False
    cite: Annotated[bool, typer.Option("--cite", help="BibTeX of what was used on stderr, after the result.")] = False


@dataclass(frozen=True, kw_only=True)
class ESOptions:
    """The ES options that commands share; number options are text, since a comma list makes rows."""

    dim: Annotated[str | None, typer.Option(help="Number of trainable parameters, e.g. 4e9.")] = None
    model: Annotated[str | None, typer.Option(help="Count them from a model folder or a built-in model.")] = None
    trainable: Annotated[str | None, typer.Option(help="all | last:K | lora:R | regex:... (default all).")] = None
    sigma: Annotated[str | None, typer.Option(help="Perturbation scale, weight units.")] = None
    alpha: Annotated[str | None, typer.Option(help="Step size, weight units (default sigma/2).")] = None
    population: Annotated[str | None, typer.Option(help="Members evaluated per step, N.")] = None
    steps: Annotated[str | None, typer.Option(help="Steps T; a list predicts at each (default 1).")] = None
    shaping: Annotated[str | None, typer.Option(help="zscore | centered-rank | raw | two-point (default zscore).")] = (
        None
    )
    antithetic: Annotated[bool, typer.Option("--antithetic", help="The N members are N/2 pairs.")] = False
    noise: Annotated[str | None, typer.Option(help="gaussian | low-rank:R | shared-seed (default gaussian).")] = None
    anchor_l2: Annotated[str | None, typer.Option(help="Proportional pull to the start per step.")] = None
    anchor_l1: Annotated[str | None, typer.Option(help="Constant pull to the start per step, weight units.")] = None
    anchor_form: Annotated[str | None, typer.Option(help="before | after: is the new step pulled too (after)?")] = None
    momentum: Annotated[str | None, typer.Option(help="Heavy-ball momentum, (1-B) convention.")] = None
    dtype: Annotated[str | None, typer.Option(help="float32 | bfloat16 | float16 (default float32).")] = None
    update_path: Annotated[str | None, typer.Option(help="accumulated | sequential (default accumulated).")] = None
    restore_pairs: Annotated[str | None, typer.Option(help="Perturb-restore pairs a step on the updated copy.")] = None
    weights: Annotated[Path | None, typer.Option(help="Checkpoint whose weights rounding acts on.")] = None
    weight_std: Annotated[str | None, typer.Option(help="Or their standard deviation, taken as normal.")] = None
    reliability: Annotated[str | None, typer.Option(help="rho^2: share of reward variance that is signal.")] = None
    gradient_norm: Annotated[str | None, typer.Option(help="||g||, reward per weight.")] = None
    reward_std: Annotated[str | None, typer.Option(help="s: reward noise of one member.")] = None
    success: Annotated[str | None, typer.Option(help="Base accuracy p of 0/1 rewards; needs --prompts.")] = None
    prompts: Annotated[str | None, typer.Option(help="Prompts B that a member's reward averages over.")] = None
    spectrum: Annotated[Path | None, typer.Option(help="CSV eigenvalue,multiplicity,offset of minus the Hessian.")] = (
        None
    )
    fisher_trace: Annotated[str | None, typer.Option(help="tr F per token, for kl_drift.")] = None
    fisher_square_trace: Annotated[str | None, typer.Option(help="tr F^2, for its spread over seeds.")] = None
    off_task_trace: Annotated[str | None, typer.Option(help="tr of another task's curvature.")] = None
    off_task_square_trace: Annotated[str | None, typer.Option(help="tr of its square, for the spread.")] = None
    off_task_gradient_norm: Annotated[str | None, typer.Option(help="||g|| of another task.")] = None
    grpo_lr: Annotated[str | None, typer.Option(help="AdamW's peak learning rate.")] = None
    grpo_steps: Annotated[str | None, typer.Option(help="AdamW's number of steps.")] = None
    grpo_schedule: Annotated[str | None, typer.Option(help="constant | linear | cosine (default linear).")] = None
    grpo_norm: Annotated[str | None, typer.Option(help="Or the measured GRPO displacement norm.")] = None


def options(*groups: type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of ``groups``; it receives one instance of each as its first arguments.

    A ``config`` option among them names a TOML file that fills what the command line leaves unset. Its keys are the
    command's option names; an unknown one is an error.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(command, eval_str=True).parameters.values())[len(groups) :]
        spread: list[inspect.Parameter] = []
        for group in groups:
            hints = get_type_hints(group, include_extras=True)
            spread.extend(
                inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=hints[f.name])
                for f in fields(group)
            )

        @functools.wraps(command)
        def run(**values: Any) -> None:
            hints = {p.name: p.annotation for p in (*own, *spread)}
            settable = {name: hint for name, hint in hints.items() if name != "config"}
            if values.get("config") is not None:
                fill_from_toml(values, values["config"], settable)
            packed = [group(**{f.name: values.pop(f.name) for f in fields(group)}) for group in groups]
            command(*packed, **values)

        parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own] + spread
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # read by typer
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        return run

    return decorate


def fill_from_toml(values: dict[str, Any], path: Path, settable: dict[str, Any]) -> None:
    """Fill unset options from a TOML file.

    Parameters
    ----------
    values
        By option name; None and False are unset, and replaced in place.
    """
    try:
        table = parse_toml(path.read_bytes())
    except OSError as error:
        raise DataError(f"config file {path}: {error.strerror}", "check the path") from error
    except ValueError as error:
        raise DataError(f"config file {path} is not TOML: {error}", "correct it") from error
    for key, value in table.items():
        name = key.replace("-", "_")
        if name not in settable:
            close = difflib.get_close_matches(name, settable, 1)
            known = ", ".join(sorted(settable))
            hint = (
                f"did you mean '{close[0].replace('_', '-')}'?" if close else f"known keys: {known.replace('_', '-')}"
            )
            raise ConfigError(f"config file {path}: unknown key '{key}'", hint)
        if values.get(name) in (None, False):
            values[name] = _typed(f"config file {path}: key '{key}'", value, str(settable[name]))


def _typed(what: str, value: Any, annotation: str) -> Any:
    """Return a TOML value as the option's type: booleans for flags, whole numbers for int, text for the rest."""
    if "bool" in annotation:
        if not isinstance(value, bool):
            raise ConfigError(f"{what} must be true or false, got {value!r}", "correct it")
        return value
    if isinstance(value, (bool, dict)) or "\0" in str(value):
        raise ConfigError(f"{what} has an unusable value {value!r}", "give a number, a text or a list")
    if "int" in annotation:
        if not isinstance(value, int):
            raise ConfigError(f"{what} must be a whole number, got {value!r}", "correct it")
        return value
    if "float" in annotation:
        if not isinstance(value, (int, float)):
            raise ConfigError(f"{what} must be a number, got {value!r}", "correct it")
        return float(value) if abs(value) < 1e308 else math.copysign(math.inf, value)
    text = ",".join(str(item) for item in value) if isinstance(value, list) else str(value)
    return Path(text) if "Path" in annotation else text


def numbers(name: str, text: str | None) -> list[float]:
    """Parse a comma list of numbers.

    Parameters
    ----------
    name
        Of the option, without dashes in front, for the message.
    text
        The list; None for an option that is not given.
    """
    if text is None:
        return []
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(
            f"--{name} '{text}' is not a number or a comma list of numbers", f"e.g. --{name} 1e-3"
        ) from None


def number(name: str, text: str | None) -> float | None:
    """Parse one number.

    Parameters
    ----------
    name
        Of the option, without dashes in front, for the message.
    text
        None for an option that is not given.
    """
    values = numbers(name, text)
    if len(values) > 1:
        raise ConfigError(f"--{name} takes one number, got '{text}'", "give one")
    return values[0] if values else None


def checked_level(level: float) -> float:
    """Return a probability above 0 and below 1."""
    if not 0 < level < 1:
        raise ConfigError(f"--level must lie between 0 and 1, got {level}", "e.g. 0.05")
    return level


def choice(name: str, text: str | None, choices: Sequence[str], default: str) -> str:
    """Return the value of an option that is one of a few words.

    Parameters
    ----------
    name
        Of the option, without dashes in front, for the message.
    text
        None for an option that is not given.
    default
        For None; one of `choices`, or any text if `text` cannot be None.
    """
    value = default if text is None else text
    if value not in choices:
        close = difflib.get_close_matches(value, choices, 1)
        hint = f"did you mean '{close[0]}'? " if close else ""
        raise ConfigError(f"--{name} '{value}' is unknown", f"{hint}choose one of {', '.join(choices)}")
    return value
