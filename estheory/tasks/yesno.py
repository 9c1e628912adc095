"""Yes/no reading: a short statement, then a question about it, ``sue has cup dog.has owl?``."""

from __future__ import annotations

import random

from estheory.tasks.task import Example, GeneratedTask, Problem

NAMES = ("ann", "ben", "eva", "ian", "joe", "kim", "max", "sue", "tom", "zoe")
THINGS = (
    "axe",
    "bag",
    "cup",
    "dog",
    "egg",
    "fan",
    "hat",
    "jar",
    "key",
    "map",
    "net",
    "owl",
    "pen",
    "rug",
    "saw",
    "tub",
)


class YesNo(GeneratedTask):
    """Say whether a person has a thing; half of the answers are yes."""

    name = "yesno"

    def draw(self, rng: random.Random) -> Problem:
        """Draw a person and two things they have; ask about one of these with probability 1/2, else another."""
        person = rng.choice(NAMES)
        first, second, other = rng.sample(THINGS, 3)
        is_yes = rng.random() < 0.5
        asked = rng.choice((first, second)) if is_yes else other
        return Problem(
            text=f"{person} has {first} {second}.has {asked}?",
            answer="yes" if is_yes else "no",
            key=f"{person} {min(first, second)} {max(first, second)}",
        )

    def partial_score(self, example: Example, completion: str) -> float:
        """Return the accuracy: a half-right yes is no answer."""
        return self.score(example, completion)
