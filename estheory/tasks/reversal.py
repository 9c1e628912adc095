"""String reversal: ``reverse abcdef=`` is answered by ``fedcba``."""

from __future__ import annotations

import random
from string import ascii_lowercase

from estheory.tasks.task import GeneratedTask, Problem

WORD_LENGTH = 6


class Reversal(GeneratedTask):
    """Write a random word backwards."""

    name = "reversal"

    def draw(self, rng: random.Random) -> Problem:
        """Draw WORD_LENGTH independent uniform letters, leaving out what reads the same backwards."""
        while True:
            word = "".join(rng.choices(ascii_lowercase, k=WORD_LENGTH))
            if word != word[::-1]:
                return Problem(text=f"reverse {word}=", answer=word[::-1], key=word)
