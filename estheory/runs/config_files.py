"""The configuration of a run read back from its TOML form, every value checked. Imports no torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from estheory.errors import ConfigError, DataError
from estheory.files import parse_toml, plainly
from estheory.runs.config import ESRunConfig, GRPORunConfig

KINDS: dict[str, type[ESRunConfig] | type[GRPORunConfig]] = {"es": ESRunConfig, "grpo": GRPORunConfig}


def parse_config(text: str, source: str) -> ESRunConfig | GRPORunConfig:
    """Read the TOML form of a configuration.

    Examples
    --------
    >>> run = ESRunConfig(model="tiny-lm", task="addition", steps=10, sigma=0.01, alpha=0.005)
    >>> parse_config(run.to_toml(), "here") == run
    True
    """
    try:
        values = parse_toml(text)
    except ValueError as error:
        raise DataError(f"{source} is not TOML ({error})", "restore it or start a new run") from error
    method = values.pop("method", None)
    if not isinstance(method, str) or method not in KINDS:
        raise DataError(f"{source}: method = {method!r}", f"use one of {', '.join(KINDS)}")
    kind = KINDS[method]
    return _build(kind, {**kind.before, **values}, source)


def load_config(path: Path) -> ESRunConfig | GRPORunConfig:
    """Read a configuration file."""
    try:
        return parse_config(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {plainly(error)}", "give the folder of a run") from error


def younger_fields(method: str, values: Mapping[str, object]) -> dict[str, object]:
    """Return the fields that a recorded configuration of a method lacks, with the values that this stands for."""
    kind = KINDS[method]
    defaults = {field.name: field.default for field in dataclasses.fields(kind)}
    meant: dict[str, object] = {**defaults, **kind.before}
    return {name: value for name, value in meant.items() if name not in values and value is not dataclasses.MISSING}


def _build(
    kind: type[ESRunConfig] | type[GRPORunConfig], values: Mapping[str, object], source: str
) -> ESRunConfig | GRPORunConfig:
    """Return a configuration from its values, each checked against the type of its field."""
    fields = {field.name: field for field in dataclasses.fields(kind)}
    if unknown := sorted(set(values) - set(fields)):
        raise DataError(f"{source}: unknown key {unknown[0]!r}", "remove it")
    required = {name for name, field in fields.items() if field.default is dataclasses.MISSING}
    if missing := sorted(required - set(values)):
        raise DataError(f"{source}: {missing[0]!r} is missing", "add it")
    hints = get_type_hints(kind)
    checked: dict[str, Any] = {name: typed(value, hints[name], f"{source}: {name}") for name, value in values.items()}
    try:
        return kind(**checked)
    except ConfigError as error:
        raise DataError(f"{source}: {error.what}", error.remedy) from error


def typed(value: object, hint: Any, where: str) -> object:
    """`value` as the type that `hint` names."""
    if get_origin(hint) in (Union, UnionType) and NoneType in get_args(hint):  # a Literal or None is a Union
        [hint] = (each for each in get_args(hint) if each is not NoneType)
    if get_origin(hint) is Literal:
        if value in get_args(hint):
            return value
        raise DataError(f"{where} = {value!r}", f"use one of {', '.join(get_args(hint))}")
    if get_origin(hint) is tuple and isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is hint:
        return value
    raise DataError(f"{where} = {value!r} has the wrong type", f"give {getattr(hint, '__name__', 'a list of strings')}")
