"""Multiple choice over a small factual table: ``sodium A=Ne B=Na C=Li?`` is answered by ``B``.

The table pairs chemical elements with their symbols, those of two letters. These are public-domain facts,
compiled for this project and released under CC0 1.0.
"""

from __future__ import annotations

import random

from estheory.tasks.task import Example, GeneratedTask, Problem

SYMBOLS = {
    "aluminum": "Al", "antimony": "Sb", "argon": "Ar", "arsenic": "As", "barium": "Ba", "bismuth": "Bi",
    "bromine": "Br", "cadmium": "Cd", "calcium": "Ca", "cesium": "Cs", "chlorine": "Cl", "chromium": "Cr",
    "cobalt": "Co", "copper": "Cu", "gallium": "Ga", "gold": "Au", "helium": "He", "iron": "Fe",
    "krypton": "Kr", "lead": "Pb", "lithium": "Li", "mercury": "Hg", "neon": "Ne", "nickel": "Ni",
    "osmium": "Os", "platinum": "Pt", "radium": "Ra", "silicon": "Si", "silver": "Ag", "sodium": "Na",
    "tin": "Sn", "titanium": "Ti", "xenon": "Xe", "zinc": "Zn",
}  # fmt: skip
LETTERS = "ABC"


class Choice(GeneratedTask):
    """Choose the symbol of an element among three."""

    name = "choice"

    def draw(self, rng: random.Random) -> Problem:
        """Draw an element and two wrong symbols, in random order; the key ignores the order."""
        element, *others = rng.sample(sorted(SYMBOLS), len(LETTERS))
        options = [SYMBOLS[name] for name in (element, *others)]
        rng.shuffle(options)
        listed = " ".join(f"{letter}={symbol}" for letter, symbol in zip(LETTERS, options, strict=True))
        return Problem(
            text=f"{element} {listed}?",
            answer=LETTERS[options.index(SYMBOLS[element])],
            key=f"{element} {' '.join(sorted(options))}",
        )

    def partial_score(self, example: Example, completion: str) -> float:
        """Return the accuracy: a letter is right or wrong."""
        return self.score(example, completion)
