"""Rewards of members on prompts, in every format that codes write them in. Imports no torch.

A matrix of members by prompts (JSON, npy, npz, CSV without header), or long form, one reward a row (CSV with header,
JSONL, Parquet), or the lines of a run's log that hold ``prompt_rewards``. Several iterations may stand in one file.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args
from zipfile import BadZipFile

import numpy as np

from estheory._special import Array
from estheory.errors import DataError, MissingDependencyError
from estheory.files import parse_json, plainly, whole_lines
from estheory.measurement.run_log import Mirroring
from estheory.rules import require_positive
from estheory.runs.read import read_run
from estheory.theory.economy.iteration import Iteration, require_matrix

_FORMATS = (
    "give a .csv of a row per member and a column per prompt, or .json, .npy, .npz, .jsonl or .parquet as the page "
    "'A pilot in one iteration' of the documentation shows them"
)
_LONG = ("member", "prompt", "reward")
_CENTRE = ("centre", "center")


@dataclass(frozen=True, kw_only=True)
class RewardFile:
    """What a file of rewards holds.

    Attributes
    ----------
    iterations
        At least one.
    alpha
        Step size that the file names, weight units; None where it names none.
    """

    iterations: tuple[Iteration, ...]
    alpha: float | None = None


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What the caller says of a file, over what it says itself."""

    where: str
    sigma: float | None
    mirrored: Mirroring | None
    centre: Array | None


def read_rewards(
    source: Path,
    *,
    sigma: float | None = None,
    mirrored: Mirroring | None = None,
    centre: Path | None = None,
) -> RewardFile:
    """Read rewards of members on prompts.

    Parameters
    ----------
    source
        A file, or the folder of a run that kept rewards by prompt.
    sigma
        Perturbation scale, weight units, where the file names none.
    mirrored
        How pairs stand in a matrix, where the file does not say.
    centre
        File with the centre's reward on each prompt: a list in any of the matrix formats.

    Returns
    -------
    RewardFile

    Raises
    ------
    DataError
        The file is missing, is in none of the formats, or holds what no pilot can use; names row and column.
    ConfigError
        ``sigma`` is out of range.
    MissingDependencyError
        It is Parquet and pyarrow is not installed.
    """
    if sigma is not None:
        require_positive("sigma", sigma)
    asked = _Asked(
        where=str(source), sigma=sigma, mirrored=mirrored, centre=None if centre is None else _centre(centre)
    )
    if source.is_dir():
        return _of_run(source, asked)
    raw = _bytes(source)
    if source.suffix.lower() == ".jsonl" and b'"prompt_rewards"' in raw:
        return _of_run(source, asked)
    return _of_bytes(raw, source.suffix.lower(), asked)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", "check the path") from error


def _of_bytes(raw: bytes, suffix: str, asked: _Asked) -> RewardFile:
    if raw[:6] == b"\x93NUMPY" or raw[:4] == b"PK\x03\x04":
        return _of_objects([_numpy(raw, asked.where)], asked)
    if suffix == ".parquet" or raw[:4] == b"PAR1":
        return _of_long(_parquet(raw, asked.where), asked)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{asked.where} is neither text nor a NumPy or Parquet file", _FORMATS) from None
    if not text.strip():
        raise DataError(f"{asked.where} is empty", _FORMATS)
    if suffix == ".csv" or text.lstrip()[0] not in "[{":
        return _of_csv(text, asked)
    if suffix != ".jsonl":
        try:
            document = parse_json(text)
        except ValueError as error:
            if suffix == ".json":
                raise DataError(f"{asked.where} cannot be read: {plainly(error)}", "correct it") from None
        else:
            several = isinstance(document, list) and document and all(isinstance(item, dict) for item in document)
            return _of_objects(document if several else [document], asked)
    return _of_long(whole_lines(text.split("\n"), asked.where), asked)


def _numpy(raw: bytes, where: str) -> Any:
    """Return the array of an npy file, or the arrays of an npz file by name."""
    try:
        loaded = np.load(io.BytesIO(raw), allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        return {name: loaded[name] for name in loaded.files}
    except (ValueError, OSError, EOFError, KeyError, BadZipFile) as error:
        raise DataError(f"{where} is no array file of numbers: {error}", "save rewards with numpy.save") from None


def _parquet(raw: bytes, where: str) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        from pyarrow import BufferReader, parquet
    except ImportError:
        raise MissingDependencyError("Parquet needs pyarrow", "pip install pyarrow, or give CSV") from None
    try:
        columns = parquet.read_table(BufferReader(raw)).to_pydict()
    except Exception as error:  # pyarrow has its own errors for what is no Parquet
        raise DataError(f"{where} is no Parquet file: {error}", _FORMATS) from None
    names = list(columns)
    for number, values in enumerate(zip(*columns.values(), strict=True), start=1):
        yield number, dict(zip(names, values, strict=True))


def _of_csv(text: str, asked: _Asked) -> RewardFile:
    rows = [
        (n, row) for n, row in enumerate(csv.reader(io.StringIO(text)), start=1) if any(cell.strip() for cell in row)
    ]
    first = [cell.strip() for cell in rows[0][1]]
    if not any(map(_is_number, first)):
        missing = [name for name in _LONG if name not in first]
        if missing:
            raise DataError(
                f"{asked.where}: its header lacks {', '.join(missing)}",
                "long form has the columns member,prompt,reward; a matrix has no header",
            )
        records = ((n, dict(zip(first, (cell.strip() for cell in row), strict=False))) for n, row in rows[1:])
        return _of_long(records, asked)
    return _of_objects([[row for _, row in rows]], asked)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _matrix(rows: Any, where: str) -> Array:
    """Return rewards as an array of two or three axes; names the row and the column of what is no number."""
    if isinstance(rows, np.ndarray):
        if rows.dtype.kind not in "fiub":
            raise DataError(f"{where} holds {rows.dtype} instead of numbers", "save the rewards as floats")
        return rows.astype(np.float64)
    if not isinstance(rows, list) or not rows or not all(isinstance(row, list) for row in rows):
        raise DataError(f"{where} holds no matrix of members by prompts", _FORMATS)
    if all(row and isinstance(row[0], list) for row in rows):
        matrices = [_matrix(matrix, f"{where}: iteration {k}") for k, matrix in enumerate(rows, start=1)]
        if len({matrix.shape for matrix in matrices}) > 1:
            raise DataError(f"{where}: its iterations differ in size", "give a list of objects, one an iteration")
        return np.stack(matrices)
    width = len(rows[0])
    for number, row in enumerate(rows, start=1):
        if len(row) != width:
            what = f"row {number} has {len(row)} columns, row 1 has {width}"
            raise DataError(f"{where}: {what}", "give every member's reward on the same prompts")
    try:
        return np.array(rows, dtype=np.float64)
    except (TypeError, ValueError):
        for number, row in enumerate(rows, start=1):
            for column, cell in enumerate(row, start=1):
                if isinstance(cell, bool) or (not isinstance(cell, (int, float)) and not _is_number(str(cell))):
                    what = f"row {number}, column {column} is {str(cell)[:20]!r}, no finite number"
                    raise DataError(f"{where}: {what}", "correct it, or leave the prompt out") from None
        raise


def _number(value: Any, name: str, where: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise DataError(f"{where}: {name} is {str(value)[:20]!r}, no number", "correct it") from None


def _of_objects(documents: Sequence[Any], asked: _Asked) -> RewardFile:
    """Read matrices: bare ones, or objects with ``rewards`` and what belongs to them."""
    found: list[Iteration] = []
    alpha = None
    for position, document in enumerate(documents, start=1):
        where = asked.where if len(documents) == 1 else f"{asked.where}: iteration {position}"
        table: Mapping[str, Any] = document if isinstance(document, Mapping) else {"rewards": document}
        if "rewards" not in table:
            raise DataError(f"{where}: the object has no 'rewards'", _FORMATS)
        rewards = _matrix(table["rewards"], where)
        centre = _vectors(table.get("centre", table.get("center")), where)
        if table.get("alpha") is not None:
            alpha = _number(table["alpha"], "alpha", where)
        several = rewards.ndim == 3
        for k, matrix in enumerate(rewards if several else [rewards]):
            own = table.get("sigma")
            if own is not None and np.ndim(own) == 1 and np.size(own) == len(rewards):
                own = own[k]
            found.append(
                _iteration(
                    matrix,
                    asked,
                    where=f"{where}: iteration {k + 1}" if several else where,
                    sigma=own,
                    mirrored=_mirroring(table.get("mirrored"), where),
                    centre=centre[k] if several and centre is not None and centre.ndim == 2 else centre,
                    step=table.get("step"),
                )
            )
    return RewardFile(iterations=tuple(found), alpha=alpha)


def _of_run(path: Path, asked: _Asked) -> RewardFile:
    """Take the updates of a run that kept rewards by prompt; where some have mirrored partners, those alone.

    Others may be missing.
    """
    problems: list[str] = []
    run = read_run(path, problems=problems)
    if damaged := [problem for problem in problems if " lacks step " not in problem]:
        raise DataError(damaged[0], "correct it, or leave the update out")
    settings = run.settings
    partnered = any(step.mirror_rewards is not None for step in run.steps)
    found = []
    for step in run.steps:
        members, partners = step.prompt_rewards, step.mirror_rewards
        if members is None or (partnered and partners is None):
            continue
        if partners is not None:
            members = np.stack([members, partners], axis=1).reshape(-1, members.shape[1])
        found.append(
            _iteration(
                members,
                asked,
                where=f"{asked.where}: step {step.step}",
                sigma=settings.sigma,
                mirrored="interleaved" if settings.kind.paired or partnered else None,
                centre=step.centre_rewards,
                step=step.step,
            )
        )
    if not found:
        remedy = "give a run that kept rewards by prompt, or a file of one iteration"
        raise DataError(f"{asked.where} holds no rewards by prompt", remedy)
    return RewardFile(iterations=tuple(found), alpha=settings.alpha)


def _mirroring(value: Any, where: str) -> Mirroring | None:
    if isinstance(value, np.ndarray):
        value = value.item()
    if value is None or value is False:
        return None
    if value is True:
        return "interleaved"
    if value not in get_args(Mirroring):
        raise DataError(f"{where}: mirrored is {str(value)[:20]!r}", "write true, 'interleaved' or 'halves'")
    return "halves" if value == "halves" else "interleaved"


def _vectors(value: Any, where: str) -> Array | None:
    if value is None:
        return None
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(f"{where}: the centre's rewards are no list of numbers", "give one a prompt") from None


def _centre(path: Path) -> Array:
    """Return the rewards of a file of one list."""
    raw = _bytes(path)
    if raw[:6] == b"\x93NUMPY":
        return np.ravel(_matrix(_numpy(raw, str(path)), str(path)))
    try:
        text = raw.decode("utf-8-sig")
        cells = (
            parse_json(text) if text.lstrip()[:1] == "[" else [c for row in csv.reader(io.StringIO(text)) for c in row]
        )
        return np.asarray(cells, dtype=np.float64).ravel()
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{path} holds no list of numbers: {error}", "give the centre's reward on each prompt"
        ) from None


def _iteration(
    matrix: Array,
    asked: _Asked,
    *,
    where: str,
    sigma: Any,
    mirrored: Mirroring | None,
    centre: Array | None,
    step: Any = None,
) -> Iteration:
    """Make an iteration of what a file says and what the caller adds; pairs are put side by side."""
    chosen = asked.sigma if sigma is None else _number(sigma, "sigma", where)
    if asked.sigma is not None and chosen is not None and not math.isclose(chosen, asked.sigma):
        raise DataError(f"{where} says sigma {chosen:g}, and --sigma {asked.sigma:g}", "leave out --sigma")
    if chosen is None:
        raise DataError(f"{where} does not say sigma", "give --sigma")
    require_positive("sigma", chosen)
    pairing = asked.mirrored or mirrored
    try:
        require_matrix(matrix)
        if pairing == "halves" and len(matrix) % 2 == 0:
            half = len(matrix) // 2
            matrix = matrix[np.arange(len(matrix)).reshape(2, half).T.ravel()]
        return Iteration(
            rewards=matrix,
            sigma=chosen,
            mirrored=pairing is not None,
            centre=asked.centre if asked.centre is not None else centre,
            step=int(step) if isinstance(step, (int, float, np.integer)) else None,
        )
    except DataError as error:
        raise DataError(f"{where}: {error.what}", error.remedy) from None


def _of_long(records: Iterable[tuple[int, Mapping[str, Any]]], asked: _Asked) -> RewardFile:
    """Read one reward a row: groups of equal sigma and step are iterations."""
    groups: dict[tuple[Any, Any], _Long] = {}
    for line, row in records:
        missing = [name for name in _LONG if row.get(name) in (None, "")]
        if missing:
            what = f"row {line} has no {missing[0]}"
            raise DataError(f"{asked.where}: {what}", "long form has the columns member,prompt,reward")
        key = (_blank(row.get("sigma")), _blank(row.get("step")))
        if key not in groups:
            groups[key] = _Long()
        groups[key].add(line, row, asked.where)
    if not groups:
        raise DataError(f"{asked.where} holds no reward", _FORMATS)
    found = []
    for (sigma, step), group in groups.items():
        where = (
            asked.where
            if len(groups) == 1
            else f"{asked.where}: "
            + " ".join(f"{name} {value}" for name, value in (("sigma", sigma), ("step", step)) if value is not None)
        )
        matrix, centre = group.matrix(where)
        number = None if step is None else _number(step, "step", where)
        paired: Mirroring | None = "interleaved" if group.paired else None
        found.append(_iteration(matrix, asked, where=where, sigma=sigma, mirrored=paired, centre=centre, step=number))
    return RewardFile(iterations=tuple(found))


def _blank(value: Any) -> Any:
    return None if value == "" else value


class _Long:
    """The rewards of one iteration in long form."""

    def __init__(self) -> None:
        self.rewards: dict[tuple[str, ...], dict[str, float]] = {}
        self.centre: dict[str, float] = {}
        self.prompts: dict[str, None] = {}

    @property
    def paired(self) -> bool:
        """Whether members belong to pairs."""
        return any(len(member) > 1 for member in self.rewards)

    def add(self, line: int, row: Mapping[str, Any], where: str) -> None:
        """Take one row."""
        member, prompt, cell = str(row["member"]), str(row["prompt"]), row["reward"]
        try:
            reward = float(cell)
        except (TypeError, ValueError):
            what = f"row {line}, column reward is {str(cell)[:20]!r}, no finite number"
            raise DataError(f"{where}: {what}", "correct it, or leave the prompt out") from None
        self.prompts[prompt] = None
        pair, sign = _blank(row.get("pair")), _blank(row.get("sign"))
        if member in _CENTRE or (sign is not None and str(sign) in ("0", "0.0")):
            target = self.centre
        else:
            key = (member,) if pair is None else (member, str(pair), _sign(sign, line, where))
            target = self.rewards.setdefault(key, {})
        if prompt in target:
            raise DataError(f"{where}: row {line} is a second reward of member {member} on prompt {prompt}", "keep one")
        target[prompt] = reward

    def matrix(self, where: str) -> tuple[Array, Array | None]:
        """Return members by prompts, pairs side by side, and the centre's rewards."""
        for member, rewards in [*self.rewards.items(), *([(("centre",), self.centre)] if self.centre else [])]:
            lacking = next((prompt for prompt in self.prompts if prompt not in rewards), None)
            if lacking is not None:
                what = f"member {member[0]} (row) has no reward on prompt {lacking} (column)"
                raise DataError(f"{where}: {what}", "give every member's reward on the same prompts")
        rows = self._ordered(where) if self.paired else list(self.rewards)
        matrix = np.array([[self.rewards[row][prompt] for prompt in self.prompts] for row in rows])
        return matrix, np.array([self.centre[prompt] for prompt in self.prompts]) if self.centre else None

    def _ordered(self, where: str) -> list[tuple[str, ...]]:
        """Return the members pair by pair, the positive sign first."""
        pairs: dict[str, dict[str, tuple[str, ...]]] = {}
        for member in self.rewards:
            if len(member) == 1:
                raise DataError(f"{where}: member {member[0]} (row) belongs to no pair", "give each row its pair")
            _, pair, sign = member
            if pairs.setdefault(pair, {}).setdefault(sign, member) != member:
                raise DataError(f"{where}: pair {pair} has two members of sign {sign}", "give sign 1 and -1")
        for pair, signs in pairs.items():
            if len(signs) != 2:
                raise DataError(f"{where}: pair {pair} has one member", "give sign 1 and -1 of each pair")
        return [pairs[pair][sign] for pair in pairs for sign in ("+", "-")]


def _sign(value: Any, line: int, where: str) -> str:
    text = str(value).strip()
    if text in ("+", "1", "+1", "1.0", "plus", "True"):
        return "+"
    if text in ("-", "-1", "-1.0", "minus", "False"):
        return "-"
    raise DataError(f"{where}: row {line}, column sign is {text[:20]!r}", "write 1 or -1, and 0 for the centre")
