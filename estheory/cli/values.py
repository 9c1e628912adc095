"""What users may type as the value of an option: one number, a whole number, or a comma list of them.

Each parser takes the text, or a value that is one already, and raises typer.BadParameter with a remedy.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, TypeVar

import typer

T = TypeVar("T")

LONGEST_LIST = 200
_SUFFIXES = {"k": 3, "K": 3, "M": 6, "B": 9, "G": 9, "T": 12}
_SUFFIXED = re.compile(r"([+-]?[0-9][0-9_]*\.?[0-9]*)([kKMBGT])")
_GROUPED = re.compile(r"[+-]?[1-9][0-9]{0,2}(,[0-9]{3})+(\.[0-9]*)?")
_COMMA_IN_LIST = re.compile(r"[+-]?([0-9]+,0[0-9]+|[0-9],[0-9]+([kKMBGT]|[eE][+-]?[0-9]+))")
"""Nobody writes a list with 05 in it, and 1,5B or 1,5e-3 is rather one number than a list of so unequal ones."""
_DECIMAL_COMMA = re.compile(r"[+-]?[0-9]+,(0[0-9]+|[0-9]+[eE].*)|[+-]?0,[0-9]+")


def number(text: Any) -> float:
    """Return one number: 0.0015, 1.5e9, 3B, 4_022_468_096 or 4,022,468,096."""
    if not isinstance(text, str):
        return float(text)
    plain = text.strip()
    if _GROUPED.fullmatch(plain):
        plain = plain.replace(",", "")
    elif _DECIMAL_COMMA.fullmatch(plain):
        raise typer.BadParameter(f"'{text}' has a decimal comma. Write {plain.replace(',', '.')}.")
    elif "," in plain:
        raise typer.BadParameter(f"'{text}' is a list: this option takes one number.")
    if suffixed := _SUFFIXED.fullmatch(plain):
        plain = f"{suffixed[1]}e{_SUFFIXES[suffixed[2]]}"
    try:
        return float(plain)
    except ValueError:
        raise typer.BadParameter(f"'{text}' is not a number. Write e.g. 0.0015, 1.5e9 or 3B.") from None


def finite(text: Any) -> float:
    """Return one number that is neither infinite nor NaN."""
    value = number(text)
    if not math.isfinite(value):
        raise typer.BadParameter(f"'{text}' is not a finite number. Write e.g. 0.0015, 1.5e9 or 3B.")
    return value


def count(text: Any) -> int:
    """Return one whole number, e.g. 30, 4e9 or 3B."""
    if isinstance(text, str) and text.strip().isdecimal():
        text = int(text) if len(text) < 400 else text  # exact beyond 2^53, too
    value = text if isinstance(text, int) else number(text)
    if not math.isfinite(value) or value != int(value):
        raise typer.BadParameter(f"'{text}' is not a whole number. Write e.g. 30, 4e9 or 3B.")
    return int(value)


def level(text: Any) -> float:
    """Return a probability above 0 and below 1."""
    value = number(text)
    if not 0 < value < 1:
        raise typer.BadParameter(f"{value} does not lie between 0 and 1. Write e.g. 0.05.")
    return value


def _listed(text: Any, parse: Callable[[Any], T]) -> tuple[T, ...]:
    if not isinstance(text, str):
        return tuple(text)
    if _GROUPED.fullmatch(text.strip()) and re.search(r",0[0-9]{2}", text):
        return (parse(text),)  # nobody writes a list with 022 in it
    if _COMMA_IN_LIST.fullmatch(text.strip()):
        one, many = text.strip().replace(",", "."), text.strip().replace(",", ", ")
        raise typer.BadParameter(f"'{text}' has a decimal comma. Write {one}, or '{many}' with a space for a list.")
    parts = text.split(",")
    if len(parts) > LONGEST_LIST:
        raise typer.BadParameter(
            f"the list has {len(parts)} values. Give at most {LONGEST_LIST}, e.g. every tenth step."
        )
    return tuple(parse(part) for part in parts)


def numbers(text: Any) -> tuple[float, ...]:
    """Return the numbers of a comma list, which may be one number."""
    return _listed(text, number)


def counts(text: Any) -> tuple[int, ...]:
    """Return the whole numbers of a comma list, which may be one number."""
    return _listed(text, count)


def sizes(text: Any) -> tuple[int, ...]:
    """Return model sizes: as counts, but 1,543,714,304 is refused, since it may be one number or a list of four."""
    if isinstance(text, str) and _GROUPED.fullmatch(text.strip()) and not re.search(r",0[0-9]{2}", text):
        one, many = text.replace(",", "").strip(), text.strip().replace(",", ", ")
        raise typer.BadParameter(
            f"'{text}' can be one number or a list. Write {one} for one number, or '{many}' with spaces for a list."
        )
    return counts(text)


def words(text: Any) -> tuple[str, ...]:
    """Return the words of a comma list."""
    return _listed(text, str)
