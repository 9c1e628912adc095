"""Addition: the compact form of the math family, ``12+34=``."""

from __future__ import annotations

import random

from estheory.tasks.task import GeneratedTask, Problem

LARGEST_OPERAND = 49


class Addition(GeneratedTask):
    """The sum of two integers of at most two digits."""

    name = "addition"

    def draw(self, rng: random.Random) -> Problem:
        """Draw two operands, each uniform on 0..LARGEST_OPERAND; the key ignores their order."""
        a, b = rng.randint(0, LARGEST_OPERAND), rng.randint(0, LARGEST_OPERAND)
        return Problem(text=f"{a}+{b}=", answer=str(a + b), key=f"{min(a, b)},{max(a, b)}")
