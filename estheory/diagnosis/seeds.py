"""Faults of the members' seeds, as a log tells them: noise that is drawn again although it should be new."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from estheory.rules import ESConfig
from estheory.theory.estimators import estimator_of

REPEATED_SHARE = 0.01
"""Seeds of earlier steps among those of all later ones; by chance 31-bit seeds stay below up to 10^7 members."""
_LOW = (1 << 32) - 1


@dataclass(frozen=True, kw_only=True)
class SeedFault:
    """One thing that is wrong with seeds.

    Attributes
    ----------
    text
        A clause.
    steps
        Where it was seen.
    """

    text: str
    steps: tuple[int, ...]


def explain_seeds(seeds: Mapping[int, Sequence[int]], rule: ESConfig) -> tuple[SeedFault, ...]:
    """Return what is wrong with the members' seeds of a run.

    On a CPU torch's generator takes the low 32 bits of a seed, so that seeds are also compared by these.

    Parameters
    ----------
    seeds
        Of each step by its number: one a member, or one a pair of mirrored members.
    rule
        What the run claims to be.

    Returns
    -------
    tuple of SeedFault
        Empty where nothing known is wrong.

    Examples
    --------
    >>> rule = ESConfig(dim=10, sigma=0.1, population=4)
    >>> [fault.text for fault in explain_seeds({1: [3, 8, 3, 5], 2: [1, 2, 9, 4]}, rule)]
    ['2 of 4 members share a seed, and so their noise']
    """
    found = _repeats(seeds, rule, "")
    if found or all(seed <= _LOW for of_step in seeds.values() for seed in of_step):
        return found
    low = {step: [seed & _LOW for seed in of_step] for step, of_step in seeds.items()}
    return _repeats(low, rule, " in its low 32 bits, which are all that torch's generator takes on a CPU")


def _repeats(seeds: Mapping[int, Sequence[int]], rule: ESConfig, where: str) -> tuple[SeedFault, ...]:
    paired = estimator_of(rule).paired
    doubled, twice, apart, earlier, again = {}, [], [], set[int](), {}
    for step, of_step in sorted(seeds.items()):
        counts = Counter(of_step)
        allowed = 2 if paired and len(of_step) == rule.population else 1
        over = sum(count for count in counts.values() if count > allowed)
        if paired and allowed == 2 and len(counts) == len(of_step):
            apart.append(step)
        if not paired and len(of_step) > 2 and set(counts.values()) == {2}:
            twice.append(step)
        elif over:
            doubled[step] = (over, len(of_step))
        if repeated := sum(seed in earlier for seed in of_step):
            again[step] = repeated
        earlier |= set(of_step)
    found = []
    if twice:
        what = f"each seed stands twice{where}: members are mirrored, which the rule does not say (antithetic)"
        found.append(SeedFault(text=what, steps=tuple(twice)))
    if apart:
        what = "no two members share a seed: they are not mirrored, as the rule says (antithetic)"
        found.append(SeedFault(text=what, steps=tuple(apart)))
    if doubled:
        over, members = max(doubled.values())
        what = f"{over} of {members} members share a seed{where}, and so their noise"
        found.append(SeedFault(text=what, steps=tuple(doubled)))
    later = sum(len(of_step) for step, of_step in seeds.items() if step > min(seeds))
    if later and sum(again.values()) >= max(2, REPEATED_SHARE * later):
        what = f"{sum(again.values())} of {later} members have the seed of a member of an earlier step{where}"
        found.append(SeedFault(text=f"{what}: the walk adds the same noise again", steps=tuple(again)))
    return tuple(found)
