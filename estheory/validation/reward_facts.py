"""Figures of real GPU runs about what updates earn, cost and move, each with what the theory says of it.

The figures are quoted from the records of the public repository ``shardes-paper`` (Apache-2.0): ES on
Llama-3.1-Tulu-3-8B-DPO and Qwen2.5-0.5B-Instruct, float32 master weights, z-scores unless a row says otherwise. A
prediction takes other figures of the same records and the hyper-parameters; nothing is fitted. Errors are the standard
errors that the records state.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from estheory.laws import NormalLaw, PointLaw
from estheory.quantities import Quantity
from estheory.rules import ESConfig
from estheory.theory.economy.update import update_cost
from estheory.theory.grpo import GRPOConfig
from estheory.theory.predictions import predict
from estheory.theory.signal import gradient_cosine
from estheory.validation.judge import Pair
from estheory.validation.rank_norm_facts import rank_norm_pairs
from estheory.validation.reward_figure import QWEN, TULU, Figure, figure_pair

LOW_RANK = 6_979_321_856
"""Parameters that the low-rank members of the 8B model perturb."""
GAP, GAP_ERROR = 0.067, 0.014
"""Smoothing gap of the 8B model at sigma = 5e-4, mean of 120 iterations, in rewards of 0 to 10."""


def reward_fact_pairs() -> list[Pair]:
    """Return every figure with its prediction, group by group.

    Examples
    --------
    >>> pairs = reward_fact_pairs()
    >>> len(pairs), sorted({measurement.where.split(":")[0] for _, measurement in pairs})
    (117, ['cosine', 'cost', 'gain', 'gap', 'norm', 'reliability'])
    """
    return [*_gaps(), *_costs(), *_gains(), *_reliabilities(), *_norms(), *_cosines()]


def _gaps() -> Iterator[Pair]:
    """Yield gaps at a larger sigma, by the square law from a smaller one."""
    law = "reward quadratic at the scale of sigma: gap as sigma^2"
    measured = {1e-3: (0.250, 0.029), 2e-3: (1.63, 0.05)}
    smaller = {5e-4: (GAP, GAP_ERROR), 1e-3: measured[1e-3]}
    for sigma, (value, error) in measured.items():
        for base, (gap, gap_error) in smaller.items():
            if base < sigma:
                factor = (sigma / base) ** 2
                figure = Figure(
                    group="gap", where=f"Tulu-3-8B, sigma {sigma:g} from {base:g}", value=value, stderr=error
                )
                yield figure_pair(
                    figure, Quantity.SMOOTHING_GAP, NormalLaw(factor * gap, factor * gap_error), "small-step", law
                )


def _cost(population: int, share: float = 1.0) -> NormalLaw:
    config = ESConfig(dim=TULU, sigma=5e-4, alpha=5e-4, population=population)
    return NormalLaw(share * update_cost(config, GAP), share * update_cost(config, GAP_ERROR))


def _costs() -> Iterator[Pair]:
    """Yield the cost of one update, of many, and against N: all from the members' gap."""
    random = "the random part of an update alone: isotropic noise, curvature as seen by the members"
    for ranking, cost in (("probe", 0.0042), ("contrast", 0.0032), ("run's", 0.0043), ("random", 0.0038)):
        where = f"Tulu-3-8B, one update, {ranking} ranking of the same 16 members"
        figure = Figure(group="cost", where=where, value=cost, stderr=0.0005, step=1)
        yield figure_pair(figure, Quantity.DIFFUSION_COST_PER_STEP, _cost(16), "small-step", random)
    one = _cost(16)
    for steps, change, error in ((30, -0.0990, 0.085), (60, -0.2031, 0.085), (120, -0.51, 0.09)):
        where = "Tulu-3-8B, control with random fitness, held-out prompts"
        figure = Figure(group="cost", where=where, value=change, stderr=error, step=steps)
        law = NormalLaw(-steps * one.mean, steps * one.std)
        yield figure_pair(figure, Quantity.REWARD_CHANGE, law, "small-step", random, "nothing is earned")
    share = LOW_RANK / TULU
    for population, cost, error in ((128, 0.00054, 0.00007), (512, 0.00015, 0.00002)):
        where = f"Tulu-3-8B, one update of {population} rank-1 mirrored members"
        figure = Figure(group="cost", where=where, value=cost, stderr=error, step=1)
        even = "curvature in proportion to the parameters that are perturbed; systematic: all of it, or less"
        yield figure_pair(
            figure,
            Quantity.DIFFUSION_COST_PER_STEP,
            _cost(population, share),
            "small-step",
            random,
            even,
            systematic=1 / share - 1,
        )


def _gains() -> Iterator[Pair]:
    """Yield gains of one update: from all true variance, from its odd part, and against N."""
    everything = "all true variance of the members taken as odd and linear"
    odd = "the odd part of the members' variance, taken as linear"
    rows = (
        ("probe ranking", (0.039, 0.029), (0.014, 0.024), (0.004, 0.003)),
        ("run's ranking", (0.012, 0.020), (0.011, 0.020), (-0.010, 0.003)),
        ("random ranking", (-0.024, 0.020), (-0.015, 0.020), (-0.010, 0.003)),
    )
    for ranking, (every, every_error), (part, part_error), (value, error) in rows:
        where = f"Tulu-3-8B, one update, {ranking}"
        for law, said, name in (
            (NormalLaw(every, every_error), everything, "all of v"),
            (NormalLaw(part, part_error), odd, "odd part"),
        ):
            figure = Figure(group="gain", where=f"{where}, {name}", value=value, stderr=error, step=1)
            yield figure_pair(figure, Quantity.REWARD_GAIN_PER_STEP, law, "large-N", said)
    same = "the gain of an update does not depend on N"
    gains = {16: (0.004, 0.003), 128: (0.0037, 0.0011), 512: (0.0047, 0.0006)}
    for small, large in ((16, 128), (128, 512)):
        where = f"Tulu-3-8B, rank-1 mirrored, N = {large} from {small}"
        figure = Figure(group="gain", where=where, value=gains[large][0], stderr=gains[large][1], step=1)
        yield figure_pair(figure, Quantity.REWARD_GAIN_PER_STEP, NormalLaw(*gains[small]), "large-N", same)
    figure = Figure(group="gain", where="Tulu-3-8B, best step, N = 512 from 128", value=0.036, stderr=0.010, step=1)
    yield figure_pair(
        figure, Quantity.BEST_NET_GAIN, NormalLaw(4 * 0.006, 4 * 0.004), "small-step", "best net gain as N", same
    )
    yield from _countdown(everything)
    yield from _held_out(same)


def _countdown(everything: str) -> Iterator[Pair]:
    """Yield the rise of the 0.5B model on Countdown, every member's whole reward taken as a linear signal."""
    reliability, ratio = 0.94, 0.5  # of a member over 200 prompts; alpha/sigma
    figure = Figure(
        group="gain", where="Qwen2.5-0.5B Countdown, 31 updates, reliability .94", value=0.0512, stderr=0.003, step=31
    )
    law = PointLaw(reliability * 0.208)
    yield figure_pair(figure, Quantity.REWARD_CHANGE, law, "large-N", everything, "no cost")
    # members' spread summed over updates, held-out reward before and after, on 2,000 prompts
    for first, last, spread, before, after in (
        (0, 30, 0.4555, 0.0412, 0.1699),
        (50, 60, 0.3625, 0.2179, 0.2143),
        (85, 100, 0.4042, 0.2329, 0.2363),
    ):
        largest = math.sqrt((before * (1 - before) + after * (1 - after)) / 2000)  # that rewards in [0, 1] can have
        where = f"Qwen2.5-0.5B Countdown, held-out prompts, updates {first + 1} to {last}, reliability .94"
        figure = Figure(group="gain", where=where, value=after - before, stderr=largest, step=last)
        law = PointLaw(reliability * ratio * spread)
        yield figure_pair(figure, Quantity.REWARD_CHANGE, law, "large-N", everything, "no cost")


def _held_out(same: str) -> Iterator[Pair]:
    """Yield the held-out trajectory of the 8B run, from the gain of another update and the cost of its own size."""
    gain, gain_error = 0.0047, 0.0006  # of one update of 512 members
    cost = _cost(16)
    for steps, change in ((30, 0.0365), (60, -0.0365)):
        where = "Tulu-3-8B, the run, held-out prompts"
        figure = Figure(group="gain", where=where, value=change, stderr=0.085, step=steps)
        law = NormalLaw(steps * (gain - cost.mean), steps * math.hypot(gain_error, cost.std))
        yield figure_pair(
            figure, Quantity.REWARD_CHANGE, law, "small-step", same, "every update earns and pays what one did"
        )


def _reliabilities() -> Iterator[Pair]:
    """Yield split-half reliabilities, from the variance components of the same members."""
    rows = (
        (5e-4, 0.062, 5.6, (0.13, 0.21), (0.01, 0.47)),
        (1e-3, 0.022, 7.1, (0.02, 0.03), (0.00, 0.42)),
        (2e-3, 0.131, 9.2, (0.28, 0.42), (0.09, 0.56)),
    )
    for sigma, true_std, residual, halves, (low, high) in rows:
        error = (high - low) / (2 * 1.6449)
        for prompts, value in zip((192, 384), halves, strict=True):
            where = f"Tulu-3-8B, sigma {sigma:g}, {prompts} prompts"
            figure = Figure(group="reliability", where=where, value=value, stderr=error)
            expected = true_std**2 / (true_std**2 + residual / prompts)
            yield figure_pair(
                figure,
                Quantity.REWARD_RELIABILITY,
                PointLaw(expected),
                "exact",
                "v and w as estimated over 768 prompts",
            )


def _norms() -> Iterator[Pair]:
    """Yield lengths: of mirrored updates, of runs of centred ranks on mirrored members, of GRPO and RL runs."""
    mirrored = "odd less even share of the members' variance between -1/2 and 1/2 (systematic)"
    for population, norm in ((128, 3.91903), (512, 2.00643)):
        config = ESConfig(dim=LOW_RANK, sigma=5e-4, alpha=5e-4, population=population)
        figure = Figure(
            group="norm", where=f"Tulu-3-8B, rank-1 mirrored, N = {population}", value=norm, stderr=0.0, step=1
        )
        law = predict(config).get(Quantity.DISPLACEMENT_NORM).law
        yield figure_pair(figure, Quantity.STEP_NORM, law, "large-N", mirrored, systematic=0.29)
    for ranking, norm in (("run's", 11.168902), ("contrast", 11.168734), ("random", 11.168796), ("probe", 11.168847)):
        figure = Figure(group="norm", where=f"Tulu-3-8B, one update, {ranking} ranking", value=norm, stderr=0.0, step=1)
        found = predict(ESConfig(dim=TULU, sigma=5e-4, alpha=5e-4, population=16)).get(Quantity.DISPLACEMENT_NORM)
        yield figure_pair(figure, Quantity.STEP_NORM, found.law, found.label, "the noise of 16 members is drawn anew")
    yield from rank_norm_pairs()
    for seed, norm in enumerate((0.344694, 0.347091, 0.345444)):
        figure = Figure(
            group="norm", where=f"Qwen2.5-0.5B, GRPO lr 1.25e-6, seed {seed}", value=norm, stderr=0.0, step=150
        )
        yield _gradient_norm(figure, QWEN, 1.25e-6)
    for steps, norm in ((120, 0.475631), (240, 0.745329)):
        where = "Tulu-3-8B, RL lr 5e-7, stored in bf16 (86 and 81 % of the weights unchanged)"
        yield _gradient_norm(Figure(group="norm", where=where, value=norm, stderr=0.0, step=steps), TULU, 5e-7)


def _gradient_norm(figure: Figure, dim: int, lr: float) -> Pair:
    assert figure.step is not None
    grpo = GRPOConfig(lr=lr, steps=figure.step, schedule="constant")
    found = predict(ESConfig(dim=dim, sigma=1.0, population=2), grpo=grpo).get(Quantity.GRPO_DISPLACEMENT_NORM)
    return figure_pair(
        figure,
        Quantity.GRPO_DISPLACEMENT_NORM,
        found.law,
        found.label,
        *found.assumptions,
        "weights keep every update (no rounding)",
        source=found.source,
    )


def _cosines() -> Iterator[Pair]:
    """Yield cosines of updates with the exact GRPO gradient g and with the RL run's displacement."""
    random = NormalLaw(0.0, 1 / math.sqrt(TULU))
    for ranking, with_run, with_gradient in (
        ("random", 2.96627e-6, -1.59253e-5),
        ("contrast", 5.93179e-6, -2.24863e-6),
        ("run's", 1.01387e-5, -9.51546e-6),
    ):
        for value, what in ((with_run, "the RL run"), (with_gradient, "the GRPO gradient")):
            figure = Figure(group="cosine", where=f"Tulu-3-8B, {ranking} ranking with {what}", value=value, stderr=0.0)
            yield figure_pair(
                figure, Quantity.INDEPENDENT_COSINE, random, "exact", "an update without signal along the other"
            )
    config = ESConfig(dim=TULU, sigma=5e-4, alpha=5e-4, population=16)
    seen = 0.0039 + 5.6 / 768
    for variance, name in ((0.0039, "all of v"), (0.0020, "odd part")):
        figure = Figure(
            group="cosine",
            where=f"Tulu-3-8B, probe ranking with the GRPO gradient, {name}",
            value=-9.99377e-6,
            stderr=0.0,
        )
        yield figure_pair(
            figure,
            Quantity.GRADIENT_COSINE,
            gradient_cosine(config, variance / seen),
            "exact",
            "the variance taken as linear along this gradient",
        )
    low_rank = NormalLaw(0.0, 1 / math.sqrt(LOW_RANK))
    for population, with_run, with_gradient in ((128, 3.82899e-6, -8.99925e-6), (512, 4.62561e-7, -3.06571e-5)):
        for value, what in ((with_run, "the RL run"), (with_gradient, "the GRPO gradient")):
            where = f"Tulu-3-8B, rank-1 mirrored, N = {population}, with {what}"
            figure = Figure(group="cosine", where=where, value=value, stderr=0.0)
            yield figure_pair(
                figure, Quantity.INDEPENDENT_COSINE, low_rank, "large-N", "an update without signal along the other"
            )
    ranks = ESConfig(dim=QWEN, sigma=1e-3, alpha=5e-4, population=30, shaping="centered-rank")
    replicates = (1.42098e-4, 1.49065e-4, 1.36401e-4, 1.92570e-4, 1.28297e-4)
    for number, value in enumerate(replicates, start=1):
        where = f"Qwen2.5-0.5B, one update with the gradient of the log-likelihood, replicate {number}"
        figure = Figure(group="cosine", where=where, value=value, stderr=0.0, step=1)
        yield figure_pair(
            figure,
            Quantity.GRADIENT_COSINE,
            gradient_cosine(ranks, 0.94),
            "large-N",
            "all of the reliability .94 linear along this gradient",
        )
