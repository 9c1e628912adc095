"""Which variants of a test are fast: a few tell a behaviour at all its numbers."""

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def variants(values: Iterable[Any], fast: Collection[Any]) -> list[Any]:
    """Return parameters for pytest, all but ``fast`` marked as slow."""
    known = list(values)
    assert all(value in known for value in fast)
    return [value if value in fast else pytest.param(value, marks=pytest.mark.slow) for value in known]
