"""What a derivation is: inputs, steps that are equations, and the evaluator that its result must equal."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from typing import Any, Literal

from estheory.derivations.algebra import Expr, equation, numerically_equal, simplifies_to_zero, unknowns
from estheory.quantities import Label

Check = Literal["definition", "simplify", "substitute"]
Values = Mapping[str, float | int]
"""Numbers by argument name."""


@dataclass(frozen=True, kw_only=True)
class Notation:
    """One symbol of a derivation.

    Attributes
    ----------
    symbol
        The sympy symbol; its assumptions (positive, integer) are part of it.
    latex
        How LaTeX writes it.
    meaning, unit
        Unit 1 for pure numbers.
    argument
        Name of the evaluator's argument; empty for a symbol that a step defines.
    typical
        Range of the numbers at which steps are checked.
    extreme
        Range over which the result is compared with the evaluator, ends included.
    """

    symbol: Expr
    latex: str
    meaning: str
    unit: str = "1"
    argument: str = ""
    typical: tuple[float, float] = (0.3, 3.0)
    extreme: tuple[float, float] = (1e-6, 1e3)

    @property
    def name(self) -> str:
        """How text writes it."""
        return str(self.symbol)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One equation and why it holds.

    Attributes
    ----------
    equation
        left = right.
    justification
        One sentence.
    check
        ``definition``: it names its left side, a new symbol. ``simplify``: with the definitions so far put in, the
        difference of the sides simplifies to 0. ``substitute``: the sides agree at random admissible numbers to 40
        digits, integrals by quadrature.
    """

    equation: Expr
    justification: str
    check: Check


def define(left: Expr, right: Expr, why: str) -> Step:
    """Return the step that names an expression."""
    return Step(equation=equation(left, right), justification=why, check="definition")


def follows(left: Expr, right: Expr, why: str) -> Step:
    """Return the step that simplification proves."""
    return Step(equation=equation(left, right), justification=why, check="simplify")


def agrees(left: Expr, right: Expr, why: str) -> Step:
    """Return the step that numbers of 50 digits confirm: integrals, and identities of Gamma functions."""
    return Step(equation=equation(left, right), justification=why, check="substitute")


@dataclass(frozen=True, kw_only=True)
class Evaluator:
    """The function of :mod:`estheory.theory` that a result must equal.

    Attributes
    ----------
    name
        Its dotted name.
    call
        Takes the arguments by name and returns the number.
    rtol
        Its relative accuracy.
    parameters
        What is drawn to compare them, where that is not the result's own inputs.
    inputs
        The result's inputs from those parameters.
    """

    name: str
    call: Callable[[Values], float] = field(repr=False)
    rtol: float = 1e-12
    parameters: tuple[Notation, ...] = ()
    inputs: Callable[[Values], Values] = field(default=lambda values: values, repr=False)


def _printing() -> Any:
    return import_module("estheory.derivations.printing")  # which prints this module's derivations


@dataclass(frozen=True, kw_only=True)
class Derivation:
    """A named result.

    Attributes
    ----------
    name, title
        As the command line lists it.
    assumptions
        What the derivation takes as given.
    label, source
        As in :class:`estheory.quantities.Prediction`.
    symbols
        Every symbol of the steps.
    steps
        Each from those before it. The result is the right side of the last.
    evaluator
        The numpy function that it equals.
    conditions
        Relations of the inputs that hold beside their ranges, e.g. T_1 < T_2.
    """

    name: str
    title: str
    assumptions: tuple[str, ...]
    label: Label
    source: str
    symbols: tuple[Notation, ...]
    steps: tuple[Step, ...]
    evaluator: Evaluator
    conditions: tuple[Expr, ...] = ()

    def __str__(self) -> str:
        return str(_printing().text(self))

    def _repr_markdown_(self) -> str:
        return str(_printing().markdown(self))

    def latex(self) -> str:
        """Return the derivation as a LaTeX fragment."""
        return str(_printing().latex(self))

    def python(self) -> str:
        """Return the source of a function of the result's inputs that needs math, numpy and scipy at most."""
        return str(_printing().python_text(self))

    @cached_property
    def result(self) -> Expr:
        """The final expression in the inputs alone."""
        return self.resolved()[-1][1]

    @property
    def target(self) -> Expr:
        """What the result is the value of."""
        return self.steps[-1].equation.lhs

    @property
    def inputs(self) -> tuple[Notation, ...]:
        """The symbols that the result depends on, in the order of ``symbols``."""
        free = self.result.free_symbols
        return tuple(notation for notation in self.symbols if notation.symbol in free)

    def resolved(self) -> list[tuple[Expr, Expr]]:
        """Return both sides of each step with the definitions before it put in."""
        known: dict[Expr, Expr] = {}
        sides = []
        for step in self.steps:
            right = step.equation.rhs.subs(known)
            left = step.equation.lhs if step.check == "definition" else step.equation.lhs.subs(known)
            if step.check == "definition":
                known[left] = right
            sides.append((left, right))
        return sides

    def draws(self, count: int = 3) -> Iterator[dict[Expr, float | int]]:
        """Yield random admissible numbers for all symbols that no step defines; the same ones every time."""
        rng = random.Random(self.name)
        found = 0
        while found < count:
            values = {n.symbol: draw(n, rng) for n in self.symbols if n.argument}
            if self.admits(values):
                found += 1
                yield values

    def admits(self, values: Mapping[Expr, float | int]) -> bool:
        """Say whether some numbers meet the conditions that are about them."""
        asked = [condition for condition in self.conditions if condition.free_symbols <= set(values)]
        return all(condition.subs(values) for condition in asked)

    def failures(self) -> list[int]:
        """Return the steps that do not hold.

        Result: their numbers, from 1; empty for a correct derivation.
        """
        numbers = list(self.draws())
        inputs = {n.symbol for n in self.symbols if n.argument}
        wrong: list[int] = []
        defined: set[Expr] = set()
        for position, (step, (left, right)) in enumerate(zip(self.steps, self.resolved(), strict=True), start=1):
            if step.check == "definition":
                new = (left.is_Symbol or left.is_Function) and left not in inputs | defined
                good = new and unknowns(right) <= inputs
                defined.add(left)
            elif not unknowns(left) | unknowns(right) <= inputs:
                good = False  # a symbol that nothing before defines
            elif step.check == "simplify":
                left, right = left.doit(), right.doit()  # numbers first: simplifying what is wrong takes long
                good = numerically_equal(left, right, numbers[0]) and simplifies_to_zero(left - right)
            else:
                good = all(numerically_equal(left, right, values) for values in numbers)
            if not good:
                wrong.append(position)
        return wrong


def draw(notation: Notation, rng: random.Random) -> float | int:
    """Return a random number of the notation's typical range."""
    low, high = notation.typical
    return rng.randint(int(low), int(high)) if notation.symbol.is_integer else rng.uniform(low, high)
