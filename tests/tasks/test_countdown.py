"""Countdown's parser against trees evaluated apart, and its scoring."""

from __future__ import annotations

from fractions import Fraction
from operator import add, mul, sub, truediv

import pytest
from hypothesis import given
from hypothesis import strategies as st

from estheory.tasks import Example, get_task
from estheory.tasks.countdown import evaluate
from estheory.tasks.task import FILLER, PROMPT_LENGTH

OPERATIONS = {"+": add, "-": sub, "*": mul, "/": truediv}

# (text, value, numbers) with every compound in parentheses, so that precedence plays no part
Tree = tuple[str, Fraction | None, tuple[int, ...]]


def leaf(number: int) -> Tree:
    return str(number), Fraction(number), (number,)


def join(left: Tree, operator: str, right: Tree) -> Tree:
    undefined = left[1] is None or right[1] is None or (operator == "/" and right[1] == 0)
    value = None if undefined else OPERATIONS[operator](left[1], right[1])
    return f"({left[0]} {operator}{right[0]})", value, left[2] + right[2]


trees = st.recursive(
    st.integers(0, 99).map(leaf),
    lambda parts: st.builds(join, parts, st.sampled_from("+-*/"), parts),
    max_leaves=8,
)


@given(tree=trees)
def test_parser_agrees_with_the_tree(tree: Tree) -> None:
    text, value, numbers = tree
    if value is None:
        with pytest.raises(ValueError, match="division by zero"):
            evaluate(text)
    else:
        result = evaluate(text)
        assert result.value == value
        assert result.numbers == numbers


@pytest.mark.parametrize(
    ("text", "value"),
    [("2+3*4", 14), ("(2+3)*4", 20), ("9-3-2", 4), ("8/4/2", 1), ("8/4*2", 4), ("2*3+4*5", 26), ("1/3*3", 1)],
)
def test_precedence_and_association(text: str, value: int) -> None:
    assert evaluate(text).value == value


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "()", "1+", "+1", "-1", "1--1", "1 2", "(1", "1)", "2**3", "3//2", "1=1", "1/0", "1/(2-2)", "1.5",
        "1e3", "0x10", "1_0", "３", "²", "abs(1)", "__import__('os')", "1;2", "(" * 5000 + "1" + ")" * 5000, "9" * 5000,
    ],
)  # fmt: skip
def test_what_is_no_expression_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        evaluate(text)


@pytest.mark.parametrize(
    ("completion", "accuracy", "partial"),
    [
        ("3+8+2", 1, 1),
        ("2+3+8", 1, 1),
        ("(8+2) + 3", 1, 1),
        ("3+8-2", 0, 0.5),
        ("8*2-3", 1, 1),
        ("13", 0, 0),
        ("3+8", 0, 0),
        ("3+8+2+2-2", 0, 0),
        ("3+10", 0, 0),
        ("38-25", 0, 0),
        ("3+8+2=13", 0, 0),
    ],
)
def test_any_valid_expression_scores_and_nothing_else(completion: str, accuracy: float, partial: float) -> None:
    task = get_task("countdown")
    example = Example(prompt="3 8 2 make 13=".rjust(PROMPT_LENGTH, FILLER), reference="3+8+2")
    assert task.score(example, completion) == accuracy
    assert task.partial_score(example, completion) == partial
