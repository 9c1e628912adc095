"""What a check says when it fails, and how a set of checks is run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass


class ViolationError(Exception):
    """An invariant that does not hold, with what was seen.

    Parameters
    ----------
    what
        A sentence.
    example
        The smallest example that was found; empty where there is none.
    measured, expected
        The figures; empty where the sentence says all.
    fault
        The likely fault where the check itself knows it.
    """

    def __init__(
        self, what: str, *, example: str = "", measured: str = "", expected: str = "", fault: str = ""
    ) -> None:
        super().__init__(what)
        self.what, self.example, self.measured, self.expected, self.fault = what, example, measured, expected, fault


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How one check came out.

    Attributes
    ----------
    name, claim
        Of the check.
    problem
        Empty where it holds, else the message of the failure.
    """

    name: str
    claim: str
    problem: str = ""

    @property
    def holds(self) -> bool:
        """Whether the invariant holds."""
        return not self.problem


@dataclass(frozen=True, kw_only=True)
class Check:
    """One invariant of an estimator, ready to be tried: ``check()`` returns None or raises AssertionError.

    Attributes
    ----------
    name
        Of the invariant; stable, so that a test can leave one out by name.
    claim
        The sentence that must hold.
    test
        Raises :class:`ViolationError` where it does not.
    diagnose
        Returns the likely fault, or nothing.
    basic
        Whether the checks after it make no sense without it.
    """

    name: str
    claim: str
    test: Callable[[], None]
    diagnose: Callable[[], str]
    basic: bool = False

    def __str__(self) -> str:
        """Return the name, for the ids of pytest."""
        return self.name

    def outcome(self) -> Outcome:
        """Try the invariant; what the user's code raises is part of the outcome, too."""
        try:
            self.test()
        except ViolationError as found:
            return Outcome(name=self.name, claim=self.claim, problem=self._message(found))
        return Outcome(name=self.name, claim=self.claim)

    def _message(self, found: ViolationError) -> str:
        lines = [f"'{self.name}' fails: {found.what}", f"  claimed:      {self.claim}"]
        rows = (("example", found.example), ("measured", found.measured), ("expected", found.expected))
        lines += [f"  {title + ':':<13} {text}" for title, text in rows if text]
        fault = found.fault or _quietly(self.diagnose)
        if fault:
            lines.append(f"  likely fault: {fault}")
        return "\n".join(lines)

    def __call__(self) -> None:
        """Raise AssertionError where the invariant does not hold."""
        __tracebackhide__ = True
        raise_problems([self.outcome()])


def _quietly(diagnose: Callable[[], str]) -> str:
    """Return a diagnosis; code that breaks under it has none."""
    try:
        return diagnose()
    except ViolationError:
        return ""


def outcomes(checks: Iterable[Check]) -> list[Outcome]:
    """Try checks in turn, up to the first basic one that fails."""
    found = []
    for check in checks:
        found.append(check.outcome())
        if check.basic and not found[-1].holds:
            break
    return found


def raise_problems(found: Iterable[Outcome]) -> None:
    """Raise AssertionError with the first problem in full and the names of the others."""
    __tracebackhide__ = True
    failed = [outcome for outcome in found if not outcome.holds]
    if failed:
        also = f"\n  also fails:   {', '.join(outcome.name for outcome in failed[1:])}" if failed[1:] else ""
        raise AssertionError(failed[0].problem + also)
