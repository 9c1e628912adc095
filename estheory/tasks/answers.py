"""Answers found in what a model writes, and compared with the right one. Nothing is ever evaluated as code."""

from __future__ import annotations

import math
import re
import threading
from fractions import Fraction
from functools import lru_cache

_MAX_COMPLETION = 20_000  # of a completion, what is read at most: its end
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})(?:/[0-9]{1,40})?", re.ASCII)
_MARKED = re.compile(r"####[ \t]*([^\n]*)")
_SAID = re.compile(r"answer is:?[ \t]*([^\n]*)", re.IGNORECASE)
_THOUSANDS = re.compile(r"(?<=[0-9]),(?=[0-9]{3}(?![0-9]))", re.ASCII)
_TAGGED = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)
_LETTER = re.compile(r"\(?([A-Z])\)?(?:[.):,\s]*$|[.):,\n])")
_POWER = re.compile(r"\^(?:\{-?([A-Za-z]|[0-9]{1,3})\}|([A-Za-z]|[0-9])(?![({^]))", re.ASCII)
_MAX_POWER = 200
_LATEX_LENGTH = 120
_COMMANDS = frozenset(
    re.findall(
        r"\w+",
        "frac dfrac tfrac sqrt pi cdot times div left right infty pm cup cap in text mathrm sin cos tan log ln theta "
        "alpha beta circ degree le leq ge geq ne neq pmatrix begin end",
    )
)


def final_answer(completion: str) -> str:
    r"""Return the final answer of a worked solution, "" if it has none.

    In this order: what follows the last ``####``; the content of the last ``\boxed{}``; what follows the last
    "answer is"; the last number.

    `completion`: what the model wrote; of a very long one, only the end is read.
    """
    text = completion[-_MAX_COMPLETION:]
    if marked := _MARKED.findall(text):
        return str(marked[-1]).strip()
    boxed = text.rfind("\\boxed{")
    if boxed >= 0 and (content := _braced(text[boxed + len("\\boxed") :])) is not None:
        return content.strip()
    if said := _SAID.findall(text):
        number = _NUMBER.match(_plain(said[-1]))
        return number[0] if number else str(said[-1]).strip()
    return last_number(text)


def last_number(completion: str) -> str:
    """Return the last number in a completion as it is written, without commas of thousands; "" if it has none."""
    numbers = _NUMBER.findall(_THOUSANDS.sub("", completion[-_MAX_COMPLETION:].replace("\u2212", "-")))
    return str(numbers[-1]).removesuffix(".") if numbers else ""


def same_answer(given: str, right: str) -> bool:
    """Return whether two final answers agree.

    Numbers are compared exactly ("18.00", "$18" and "18." are 18; "1,800" is 1800). Other answers agree if they are
    equal without spaces and dollar signs, or if math-verify, where it is installed, finds them equal; it is given
    only short expressions without towers of powers or factorials, which it could not finish.
    """
    given, right = _plain(given), _plain(right)
    if not given or not right:
        return False
    numbers = _number(given), _number(right)
    if numbers[0] is not None and numbers[1] is not None:
        return numbers[0] == numbers[1]
    return given == right or (_is_tame(given) and _is_tame(right) and _verified(given, right))


def chosen_option(completion: str, options: tuple[str, ...]) -> int | None:
    """Return which option a completion chooses, by its letter or by its whole text.

    `completion`: what the model wrote: its ``<answer>`` tag, what follows "answer is", or all of it counts.
    `options`: texts, in the order of their letters; case and white space are not compared.
    Result: index in `options`, 0 for A; None if it chooses none.
    """
    text = _answer_text(completion)
    letter = _LETTER.match(text)
    if letter is not None:
        index = ord(letter[1]) - ord("A")
        return index if index < len(options) else None
    plain = [_words(option) for option in options]
    return plain.index(_words(text)) if _words(text) in plain else None


def yes_or_no(completion: str) -> bool | None:
    """Return the answer that a completion begins with: yes, no, true or false.

    Result: True for yes and true; None if it begins with none of them.
    """
    first = re.match(r"(yes|true|no|false)\b", _answer_text(completion), re.IGNORECASE)
    return None if first is None else first[1].lower() in ("yes", "true")


def tagged_answer(completion: str) -> str:
    """Return the content of the last ``<answer>`` tag, else the last line that is not empty.

    Result: without white space around; "" for an empty completion.
    """
    text = completion[-_MAX_COMPLETION:]
    if tagged := _TAGGED.findall(text):
        return str(tagged[-1]).strip()
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else ""


def _answer_text(completion: str) -> str:
    """Return the part of a completion that answers: its tag, what follows "answer is", or all of it."""
    text = completion[-_MAX_COMPLETION:]
    if tagged := _TAGGED.findall(text):
        return str(tagged[-1]).strip()
    said = _SAID.findall(text)
    return str(said[-1] if said else text).strip()


def _braced(text: str) -> str | None:
    """Return what is in the braces that `text` begins with, None if they are not closed."""
    depth = 0
    for position, character in enumerate(text):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return text[1:position]
    return None


def _plain(answer: str) -> str:
    """Return an answer without decoration: spaces, dollar signs, thousands' commas, a final full stop."""
    text = answer.replace("\u2212", "-").replace("\\$", "").replace("$", "").replace("\\!", "")
    text = "".join(text.split()).removesuffix(".").removesuffix("%").removesuffix("\\")
    return _THOUSANDS.sub("", text)


def _number(text: str) -> Fraction | None:
    """Return the exact value of a plain number or fraction, None for anything else."""
    if _NUMBER.fullmatch(text) is None:
        return None
    numerator, _, denominator = text.partition("/")
    if denominator and not int(denominator):
        return None
    return Fraction(numerator) / Fraction(denominator or 1)


def _words(text: str) -> str:
    return " ".join(text.lower().split()).rstrip(".")


def _is_tame(text: str) -> bool:
    """Whether an expression is certain to be read and compared quickly."""
    commands = re.findall(r"\\([A-Za-z]+)", text)
    if len(text) > _LATEX_LENGTH or "!" in text or not _COMMANDS.issuperset(commands):
        return False
    powers = [braced or bare for braced, bare in _POWER.findall(text)]
    size = math.prod(int(power) for power in powers if power.isdecimal())  # bounds powers of powers, too
    simple_powers = len(powers) == text.count("^") <= 4 and size <= _MAX_POWER and "**" not in text
    return simple_powers and re.search(r"[0-9]{13}", text) is None and text.count("\\sqrt") <= 3


@lru_cache(maxsize=1 << 14)  # the members of a population give the same answers over and over
def _verified(given: str, right: str) -> bool:
    """Whether math-verify finds two LaTeX expressions equal; False where it is not installed or cannot read them."""
    try:
        from math_verify import LatexExtractionConfig, parse, verify  # type: ignore[import-untyped]
    except ImportError:
        return False
    # its timeouts are signals, which only the main thread can take
    seconds = 5 if threading.current_thread() is threading.main_thread() else None
    target = [LatexExtractionConfig()]  # never its plain-expression reader, which evaluates code
    try:
        read = [parse(f"${text}$", target, parsing_timeout=seconds) for text in (right, given)]
        return all(read) and bool(verify(read[0], read[1], timeout_seconds=seconds))
    except Exception:  # whatever sympy makes of what a model wrote, it is not shown to be equal
        return False
