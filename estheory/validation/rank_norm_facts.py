"""Lengths of public runs whose rewards tie the more, the better the model knows the format of an answer.

Centred ranks of 30 rank-1 mirrored members on 8 prompts, Qwen2.5-0.5B on Countdown: a prompt pays 0.1 for a well-formed
answer and 0.9 more for a right one. The shares of both were evaluated beside the norms.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import pairwise

from estheory.laws import ChiLaw
from estheory.quantities import Quantity
from estheory.rules import ESConfig
from estheory.theory.predictions import predict
from estheory.validation.judge import Pair
from estheory.validation.reward_figure import QWEN, Figure, figure_pair

MEMBERS, PROMPTS = 30, 8
START = (0.0, 0.4335, 0.0125)
"""Norm, share of well-formed and share of right answers before the first update."""
RUNS: Mapping[str, tuple[float, tuple[Mapping[int, tuple[float, float, float]], ...]]] = {
    "alpha 5e-4": (
        5e-4,
        (
            {50: (4.59362, 0.99, 0.0435), 100: (5.93586, 0.9995, 0.0515), 150: (6.90166, 0.9995, 0.0625)},
            {50: (4.64688, 0.993, 0.0335), 100: (5.97445, 1.0, 0.056), 150: (6.90361, 1.0, 0.0555)},
            {50: (4.56166, 0.9975, 0.0235), 100: (5.81225, 1.0, 0.053), 150: (6.72362, 1.0, 0.058)},
            {
                **{50: (4.58215, 0.999, 0.0175), 100: (5.94889, 1.0, 0.056), 150: (6.94378, 1.0, 0.0595)},
                **{200: (7.74682, 0.9995, 0.0625), 250: (8.50474, 1.0, 0.065), 300: (9.15236, 1.0, 0.065)},
                **{350: (9.88484, 1.0, 0.066), 400: (10.46765, 0.9995, 0.0625), 450: (11.06242, 0.9995, 0.065)},
                500: (11.62935, 1.0, 0.061),
            },
        ),
    ),
    "alpha 6.25e-5": (
        6.25e-5,
        (
            {50: (0.613278, 0.565, 0.0145), 100: (0.862748, 0.6905, 0.0195), 150: (1.054987, 0.853, 0.031)},
            {50: (0.60455, 0.572, 0.016), 100: (0.864816, 0.7165, 0.022), 150: (1.056357, 0.844, 0.028)},
            {50: (0.601817, 0.541, 0.0155), 100: (0.855997, 0.7585, 0.0235), 150: (1.043251, 0.834, 0.0295)},
        ),
    ),
}
"""By update: norm, shares of well-formed and of right answers; of the run of 500 the first follows from its reward."""


def untied_share(well_formed: float, right: float, *, members: int = MEMBERS, prompts: int = PROMPTS) -> float:
    """Return the mean square of ranks averaged over ties, over that of ranks without ties.

    Members that tie share their mean rank, and t of N that do lose (t^3 - t) / (N^3 - N) of the square.

    `well_formed`, `right`: chances that an answer pays 0.1 or more, and that it pays 1.
    `members`, `prompts`: N, and the prompts over which a member's reward is the mean.

    Examples
    --------
    >>> round(untied_share(0.43, 0.01), 2), round(untied_share(1.0, 0.06), 2)
    (0.95, 0.72)
    >>> untied_share(1.0, 0.0)
    0.0
    """
    chances: dict[int, float] = defaultdict(float)
    for only_formed in range(prompts + 1):
        for solved in range(prompts + 1 - only_formed):
            ways = math.comb(prompts, only_formed) * math.comb(prompts - only_formed, solved)
            neither = prompts - only_formed - solved
            chance = (well_formed - right) ** only_formed * right**solved * (1 - well_formed) ** neither
            chances[only_formed + 10 * solved] += ways * chance
    # E[t^3 - t] of a binomial t is N (N - 1) ((N - 2) p^3 + 3 p^2)
    return 1 - sum((members - 2) * p**3 + 3 * p**2 for p in chances.values()) / (members + 1)


def rank_norm_pairs() -> Iterator[Pair]:
    """Yield each norm with two predictions: of ranks without ties, and of ranks that tie as the evaluations say."""
    highest = 0.94
    """Largest odd less even share: the reliability that the records state."""
    middle = (1 + math.sqrt(1 + highest)) / 2
    band = f"odd less even share from 0 to {highest} (systematic)"
    for name, (alpha, runs) in RUNS.items():
        for seed, norms in enumerate(runs):
            untied = _untied_updates(norms)
            for step, (norm, _, _) in norms.items():
                config = ESConfig(dim=QWEN, sigma=1e-3, alpha=alpha, population=30, steps=step, shaping="centered-rank")
                walk = predict(config).get(Quantity.DISPLACEMENT_NORM, step).law
                assert isinstance(walk, ChiLaw)
                for shrunk, what, said in (
                    (1.0, "", ("no ties among the rewards",)),
                    (
                        math.sqrt(untied[step] / step),
                        ", with ties",
                        ("ties as of independent answers, by the shares evaluated; tied members share their rank",),
                    ),
                ):
                    where = f"Qwen2.5-0.5B, centred ranks{what}, {name}, run {seed}"
                    figure = Figure(group="norm", where=where, value=norm, stderr=0.0, step=step)
                    law = ChiLaw(walk.scale * middle * shrunk, walk.df, walk.mixing_df)
                    yield figure_pair(
                        figure,
                        Quantity.DISPLACEMENT_NORM,
                        law,
                        "large-N",
                        band,
                        *said,
                        systematic=1 - 1 / middle,
                    )


def _untied_updates(norms: Mapping[int, tuple[float, float, float]]) -> dict[int, float]:
    """Return how many updates without ties move as much; shares change evenly between evaluations."""
    points, total, found = 20, 0.0, {}
    for (before, (_, formed, right)), (after, (_, formed_then, right_then)) in pairwise({0: START, **norms}.items()):
        for k in range(points):
            way = (k + 0.5) / points
            share = untied_share(formed + way * (formed_then - formed), right + way * (right_then - right))
            total += (after - before) / points * share
        found[after] = total
    return found
