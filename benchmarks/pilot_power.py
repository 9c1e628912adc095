"""How often a pilot tells the odd part that is there, at the number of pairs that it asks for, and below and above it.

    python benchmarks/pilot_power.py

writes the table of docs/how-to/pilot.md: 0/1 rewards of the kinds of prompts that the tests of pilots draw from. The
number of pairs is that of the true variances. Twelve minutes of one core.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from estheory.theory.economy.intervals import square_interval  # noqa: E402
from estheory.theory.economy.iteration import Iteration  # noqa: E402
from estheory.theory.economy.pilot import MOST_PAIRS, pairs_to_tell, pilot  # noqa: E402
from estheory.theory.economy.pooled_members import members_of  # noqa: E402
from tests.theory.economy.zero_one import CASES, Prompts  # noqa: E402

PAGE = ROOT / "docs" / "how-to" / "pilot.md"
BEGIN, END = "<!-- power -->\n", "<!-- end of power -->\n"
KINDS = {
    "alike, but for their level": "linear",
    "of unequal slope": "prompts of unequal slope",
    "few of which learn": "few prompts learn",
    "with more even than odd effects": "more even than odd",
    "that hardly learn": "weak",
    "seldom answered": "rare success",
}
WITHOUT = {
    "without effects": "nothing",
    "with even effects alone": "only even",
    "that pull apart": "prompts that pull apart",
}
PROMPTS, PILOTS, MOST = (32, 200), 400, 2_000


def iteration(rng: np.random.Generator, law: Prompts, pairs: int, prompts: int) -> Iteration | None:
    """Return a mirrored iteration; None where all its rewards are equal."""
    rewards, _ = law.rewards(rng, 2 * pairs, prompts, mirrored=True)
    return Iteration(rewards=rewards, sigma=1.0, mirrored=True) if np.ptp(rewards) else None


def needed(law: Prompts, prompts: int) -> int | None:
    """Return the number of pairs that the true variances ask for."""
    odd = law.truth(np.random.default_rng(1))["odd"]
    found = iteration(np.random.default_rng(2), law, 1_000, 2_000)
    assert found is not None
    _, noise, choice = members_of([found]).parts[:3]
    wider = 2_000 / prompts
    below = square_interval(odd, choice.stderr * math.sqrt(wider), prompts - 1).low
    return pairs_to_tell(odd, noise.value * wider, -below)


def told(law: Prompts, pairs: int, prompts: int) -> float:
    """Return the share of pilots without a centre that are said to learn."""
    rng, hits = np.random.default_rng(3), 0
    for _ in range(PILOTS):
        found = iteration(rng, law, pairs, prompts)
        hits += found is not None and pilot([found]).verdict == "learns"
    return hits / PILOTS


def rows() -> Iterator[tuple[str, ...]]:
    """Yield the lines of the table."""
    for name, case in (KINDS | WITHOUT).items():
        for prompts in PROMPTS:
            pairs = needed(CASES[case], prompts) if case in KINDS.values() else 15
            if pairs is None or pairs > MOST:
                yield name, str(prompts), f"more than {MOST_PAIRS if pairs is None else MOST}", "", "", ""
                continue
            shares = [f"{told(CASES[case], max(2, round(pairs * factor)), prompts):.0%}" for factor in (0.5, 1, 2)]
            yield name, str(prompts), str(pairs) if case in KINDS.values() else f"({pairs})", *shares


def main() -> None:
    """Write the table."""
    header = ("prompts", "how many", "K asked for", "tell it at K/2", "at K", "at 2 K")
    lines = [header, tuple("---" for _ in header)]
    for row in rows():
        print(*row, sep=" | ", flush=True)
        lines.append(row)
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    PAGE.write_text(before + BEGIN + "\n" + table + "\n" + END + rest.split(END)[1], encoding="utf-8")


if __name__ == "__main__":
    main()
