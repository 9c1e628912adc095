"""Sorting letters: ``sort dbac=`` is answered by ``abcd``. Held out: it measures drift."""

from __future__ import annotations

import random

from estheory.tasks.task import GeneratedTask, Problem

ALPHABET = "abcdefghijkl"
WORD_LENGTH = 4


class Sorting(GeneratedTask):
    """Write distinct letters in alphabetical order."""

    name = "sorting"
    held_out = True

    def draw(self, rng: random.Random) -> Problem:
        """Draw WORD_LENGTH distinct letters in an order that is not yet alphabetical."""
        while True:
            word = "".join(rng.sample(ALPHABET, WORD_LENGTH))
            answer = "".join(sorted(word))
            if word != answer:
                return Problem(text=f"sort {word}=", answer=answer, key=word)
