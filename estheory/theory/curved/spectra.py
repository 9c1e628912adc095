"""Landscapes: presets, spectra read from files, and the effective block of measured probes.

A spectrum file is a CSV with the header ``eigenvalue,multiplicity,offset``, or a TOML file with the same rows as
``[[spectrum]]`` tables and, optionally, other fields of :class:`estheory.landscape.Landscape` beside them.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from estheory.errors import ConfigError, DataError
from estheory.files import parse_toml
from estheory.landscape import Landscape
from estheory.rules import require_count, require_positive

COLUMNS = ("eigenvalue", "multiplicity", "offset")
OPTIONS = tuple(field.name for field in fields(Landscape) if field.name not in COLUMNS)
_POWER_LAW_ROWS_PER_FOLD = 16  # rows per factor e of the rank: eigenvalues of a row spread by 6 %


def flat_plus_isotropic(
    *, dim: int, directions: int, eigenvalue: float, offset: float, reward_std: float = 0.0
) -> Landscape:
    """Return ``directions`` directions of one ``eigenvalue`` and ``offset``, the rest of ``dim`` flat.

    Parameters
    ----------
    dim
        Number of parameters d.
    directions
        Number of curved directions, at most ``dim``.
    eigenvalue
        Their curvature, reward / weight^2.
    offset
        Distance of each from its optimum, weight units.
    reward_std
        s, reward units.

    Returns
    -------
    Landscape
        Of one row.

    Raises
    ------
    ConfigError
        For a value out of range.
    """
    return Landscape(
        dim=dim,
        eigenvalue=np.array([eigenvalue]),
        multiplicity=np.array([directions]),
        offset=np.array([offset]),
        reward_std=reward_std,
    )


def two_scale(
    *,
    sharp: tuple[float, float, float] = (10.0, 5, 0.3),
    nearly_flat: tuple[float, float, float] = (0.05, 400, 0.0),
    dim: int = 1005,
    reward_std: float = 0.02,
) -> Landscape:
    """Return the landscape whose reward rises, peaks and decays.

    Sharp directions start away from their optimum and equilibrate; nearly flat ones start at theirs and keep diffusing.

    Parameters
    ----------
    sharp, nearly_flat
        (eigenvalue, multiplicity, offset) of the two groups.
    dim, reward_std
        As in :class:`estheory.landscape.Landscape`.

    Returns
    -------
    Landscape
        Of two rows.

    Raises
    ------
    ConfigError
        For a value out of range.

    Examples
    --------
    >>> two_scale().trace, two_scale().gap
    (70.0, 2.25)
    """
    rows = np.array([sharp, nearly_flat], dtype=np.float64)
    return Landscape(dim=dim, eigenvalue=rows[:, 0], multiplicity=rows[:, 1], offset=rows[:, 2], reward_std=reward_std)


def power_law(
    *, dim: int, directions: int, largest: float, exponent: float, offset: float, reward_std: float = 0.0
) -> Landscape:
    """Return eigenvalues ``largest`` k^(-exponent), k = 1..directions, all with one ``offset``.

    The first 32 have a row each; later ones share rows of width 1/16 in log k that carry their mean eigenvalue, so
    that tr Lam is kept to 1e-6 and tr Lam^2 to 4e-4 exponent^2. Cost grows with log(directions) alone.

    Parameters
    ----------
    dim
        Number of parameters d.
    directions
        Number of curved directions, at most ``dim``.
    largest
        The largest eigenvalue, reward / weight^2.
    exponent
        Positive.
    offset
        Distance of each direction from its optimum, weight units.
    reward_std
        s, reward units.

    Returns
    -------
    Landscape
        Of some 32 + 16 log(directions / 32) rows.

    Raises
    ------
    ConfigError
        For a value out of range.
    """
    require_count("directions", directions, 1)
    require_positive("largest", largest)
    require_positive("exponent", exponent)
    exact = min(int(directions), 32)
    folds = math.log(directions / exact)
    edges = np.geomspace(exact, directions, 2 + int(_POWER_LAW_ROWS_PER_FOLD * folds))
    edges = np.unique(np.floor(edges))  # last rank of each row
    count = np.diff(edges)
    low, high = edges[:-1] + 0.5, edges[1:] + 0.5
    power = 1 - exponent
    total = np.log(high / low) if power == 0 else (high**power - low**power) / power  # midpoint rule: error k^-2 / 24
    ranks = np.arange(1.0, exact + 1)
    eigenvalue = largest * np.concatenate([ranks**-exponent, total / count])
    return Landscape(
        dim=dim,
        eigenvalue=eigenvalue,
        multiplicity=np.concatenate([np.ones(exact), count]),
        offset=np.full(eigenvalue.size, offset),
        reward_std=reward_std,
    )


def from_probes(
    *,
    dim: int,
    trace: float,
    gradient_norm: float,
    reward_std: float,
    square_trace: float | None = None,
    directions: float | None = None,
) -> Landscape:
    """Return the isotropic block with the measured tr Lam and ||g||.

    Its one-step results need nothing else but g' Lam g, which the block takes as ||g||^2 tr Lam / r; its peak and
    stationary state are those of equal eigenvalues, which a real spectrum need not follow. On tiny-lm it is refuted
    (experiments/probes): the gradient is less curved than the mean, so that a run rises three to four times as far.

    Parameters
    ----------
    dim
        Number of parameters d.
    trace, gradient_norm, reward_std
        tr Lam > 0 (reward / weight^2), ||g|| >= 0 (reward / weight) and s (reward), as probed.
    square_trace
        tr Lam^2, reward^2 / weight^4, which makes the number of directions r = (tr Lam)^2 / tr Lam^2.
    directions
        r, in place of ``square_trace``.

    Returns
    -------
    Landscape
        Of one row.

    Raises
    ------
    ConfigError
        Without ``square_trace`` or ``directions``, with both, or for a value out of range.
    """
    require_positive("trace", trace)
    if (square_trace is None) == (directions is None):
        raise ConfigError("an effective block needs square_trace or directions", "give one of the two")
    if square_trace is not None:
        require_positive("square_trace", square_trace)
        directions = min(max(round(trace**2 / square_trace), 1), dim)
    assert directions is not None
    require_positive("directions", directions)
    eigenvalue = trace / directions
    return flat_plus_isotropic(
        dim=dim,
        directions=int(directions),
        eigenvalue=eigenvalue,
        offset=gradient_norm / (eigenvalue * math.sqrt(directions)),
        reward_std=reward_std,
    )


def landscape_from_rows(rows: Iterable[Mapping[str, Any]], options: Mapping[str, Any], where: str) -> Landscape:
    """Return the landscape of ``rows`` and of Landscape's other fields.

    Parameters
    ----------
    rows
        Mappings with exactly the keys of COLUMNS.
    options
        The other fields of :class:`estheory.landscape.Landscape` by name; ``dim`` among them.
    where
        Begins the messages.

    Returns
    -------
    Landscape
        Of one row a mapping.

    Raises
    ------
    DataError
        Naming ``where``, the row and its value.
    """
    columns: dict[str, list[float]] = {name: [] for name in COLUMNS}
    for number, row in enumerate(rows, start=1):
        if set(row) != set(COLUMNS):
            raise DataError(
                f"{where}: row {number} has {', '.join(map(str, row)) or 'nothing'}", f"give {','.join(COLUMNS)}"
            )
        for name in COLUMNS:
            columns[name].append(_number(row[name], f"{where}: row {number}: {name}"))
    if not columns["eigenvalue"]:
        raise DataError(f"{where}: no spectrum row", f"give rows of {','.join(COLUMNS)}")
    if "dim" not in options:
        raise DataError(f"{where}: dim is unknown", "give the number of parameters")
    try:
        fields_of_rows: dict[str, Any] = {name: np.array(values) for name, values in columns.items()}
        return Landscape(**fields_of_rows, **options)
    except ConfigError as error:
        raise DataError(f"{where}: {error.what}", error.remedy) from None


def _number(value: Any, where: str) -> float:
    try:
        if isinstance(value, bool):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"{where} '{str(value)[:40]}' is not a number", "write a number such as 10 or 4e9") from None


def read_landscape(path: str | Path, **options: Any) -> Landscape:
    """Read a spectrum file.

    Parameters
    ----------
    path
        CSV or TOML (by its suffix).
    **options
        Other fields of :class:`estheory.landscape.Landscape` (``dim``, ``reward_std``, ...); they win over those in a
        TOML file, except those that are None.

    Returns
    -------
    Landscape
        Of one row per line or table.

    Raises
    ------
    DataError
        If the file is missing, has another header or an unknown key, or a value is out of range.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"cannot read the spectrum {path}: {error.strerror}", "give an existing CSV or TOML") from None
    except UnicodeDecodeError:
        raise DataError(f"{path} is not text", "give a CSV or TOML spectrum") from None
    given = {name: value for name, value in options.items() if value is not None}
    if path.suffix.lower() == ".toml":
        return _from_toml(text, given, str(path))
    try:
        lines = [line for line in csv.reader(text.splitlines()) if any(cell.strip() for cell in line)]
    except csv.Error as error:
        raise DataError(f"{path} is no CSV ({error})", f"give rows of {','.join(COLUMNS)}") from None
    if not lines:
        raise DataError(f"{path} is empty", f"give rows of {','.join(COLUMNS)} under a header of these names")
    header = [cell.strip() for cell in lines[0]]
    if header != list(COLUMNS):
        raise DataError(f"{path}: header '{','.join(header)}' is unknown", f"start the file with {','.join(COLUMNS)}")
    for number, line in enumerate(lines[1:], start=1):
        if len(line) != len(COLUMNS):
            raise DataError(f"{path}: row {number} has {len(line)} values", f"give {','.join(COLUMNS)}")
    return landscape_from_rows((dict(zip(COLUMNS, line, strict=True)) for line in lines[1:]), given, str(path))


def _from_toml(text: str, given: Mapping[str, Any], where: str) -> Landscape:
    try:
        table = parse_toml(text)
    except ValueError as error:
        raise DataError(f"{where}: {error}", "correct the TOML") from None
    rows = table.pop("spectrum", None)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{where}: no [[spectrum]] rows", f"give [[spectrum]] tables with {', '.join(COLUMNS)}")
    for key in table:
        if key not in OPTIONS:
            raise DataError(f"{where}: unknown key '{key}'", f"use spectrum, {', '.join(OPTIONS)}")
    stored = {key: _number(value, f"{where}: {key}") for key, value in table.items()}
    return landscape_from_rows(rows, {**stored, **given}, where)
