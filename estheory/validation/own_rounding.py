"""What rounding does to recorded runs.

Of published runs whose weights are not at hand: the recorded emulation over a family of weights, made by
experiments/rounding-family; nothing in it is fitted. Of runs at hand: the emulator on their own base weights.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from importlib.resources import files

import numpy as np

from estheory._special import Array
from estheory.errors import ConfigError, DataError
from estheory.files import reading
from estheory.laws import ChiLaw, PointLaw, SquaredLaw
from estheory.quantities import Prediction, Quantity
from estheory.rules import ESConfig
from estheory.runs.view import OwnRun, known
from estheory.simulation.emulator.adamw import Gradients, adamw_walks
from estheory.simulation.emulator.effects import Emulation
from estheory.simulation.emulator.emulate import emulate
from estheory.simulation.emulator.strata import SampledWeights
from estheory.theory.rounding.precision import NormBand, RoundingEffect
from estheory.theory.walk import OURS
from estheory.validation.assumptions import DENSE, FEWEST, FLAT, STUDENT
from estheory.validation.gradient_path_pairs import PROBED, gradient_path, has_gradient
from estheory.validation.judge import Pair, paired
from estheory.validation.recorded_walk import RecordedWalk

EMULATED = "rounding emulated on the base weights, given the logged coefficients"


@lru_cache(maxsize=1)
def _rows() -> tuple[dict[str, str], ...]:
    text = files("estheory").joinpath("data/rounding_family.csv").read_text(encoding="utf-8")
    return tuple(csv.DictReader(text.splitlines()))


def recorded_band(config: ESConfig, path_known: bool = True) -> NormBand | None:
    """Return the range of rounding's factor on norms over weights and restore pairs.

    `config`: the run; dtype, population, sigma, alpha and steps must match, and the update path where it is known.
    `path_known`: whether the update path is stated; else both count.
    Result: factors on the norm; None where no emulation of that run is recorded.
    """
    wanted = (config.dtype, config.population, config.sigma, config.step_size, config.steps)
    variances = [
        float(row["variance"])
        for row in _rows()
        if (row["dtype"], int(row["population"]), float(row["sigma"]), float(row["alpha"]), int(row["steps"])) == wanted
        and (not path_known or row["update_path"] == config.update_path)
    ]
    return NormBand.over(variances) if variances else None


def rounded_pairs(
    run: OwnRun, weights: SampledWeights, tensors: Mapping[str, tuple[int, float]], seed: int = 0
) -> list[Pair]:
    """Return predictions and measurements of an ES run that stores its weights in 16 bits.

    Norms of the whole model at the first step, at checkpoints and at the end, and of each tensor at the end, by the
    emulator of ``estheory run``'s own arithmetic, conditioned on the logged coefficients. A norm is a chi variable
    whose first two moments are the emulated ones; its standard error enters the law. Tensors whose law would have
    fewer than `FEWEST` degrees of freedom (next to nothing moves in them) are left out. Label mean-field.

    `weights`: magnitudes of the base weights as the run stores them, tensor by tensor.
    `tensors`: number of entries and displacement norm of each tensor at the last checkpoint, from the rounded base.
    Result: of the whole model by step, then of its tensors.
    """
    config, coefficients = _run_rules(run)
    last = len(run.steps)
    steps = sorted({1, last, *(step for step in run.checkpoints if step <= last)})
    try:
        emulation = emulate(config, weights, steps, seed=seed, coefficients=coefficients, arithmetic="fused")
    except ConfigError as error:
        raise DataError(f"{run.path}: {error.what}", "compare its norms with estheory predict") from error
    walk = RecordedWalk.of(run)
    pairs = []
    for step in steps:
        quantity = Quantity.STEP_NORM if step == 1 else Quantity.DISPLACEMENT_NORM
        law = _norm_law(emulation, step, walk.variance(step), None)
        if law is not None:
            pairs.append(
                _pair(run, quantity, law, known(run.steps[step - 1].norm, "norm"), step, f"total:{run.path.name}")
            )
    return [*pairs, *_tensor_pairs(run, emulation, walk.variance(last), tensors)]


def rounded_grpo_pairs(run: OwnRun, weights: SampledWeights, seed: int = 0) -> list[Pair]:
    """Return predictions and the measurement of the norm of a GRPO run that AdamW updates in 16 bits, in place.

    AdamW on dense gradient noise, emulated on the run's own base weights with its logged learning rates and its steps
    without a gradient; and on what gradients have in common, where they were probed before the run. The norm is a chi
    variable whose first two moments are the emulated ones. Label mean-field.

    `weights`: magnitudes of the base weights as the run stores them, tensor by tensor.
    """
    steps = len(run.steps)
    with reading(run.path):
        rates = np.array([known(row.lr, "learning rate") for row in run.steps])
        measured = known(run.steps[-1].norm, "norm")
    path, where = gradient_path(run), f"total:{run.path.name}"
    kinds = {(DENSE, where): Gradients.of_noise(steps, has_gradient(run))}
    if path is not None:
        kinds[PROBED, f"{where}, {PROBED}"] = Gradients.along(path, steps)
    pairs = []
    for (kind, place), gradients in kinds.items():
        if not gradients.noise.any():
            continue
        walk = adamw_walks(weights, run.config.dtype, rates, [steps], copy=False, gradients=gradients, seed=seed)[steps]
        df, error = 2 * run.dim / (walk.kurtosis - 1), STUDENT * walk.stderr / walk.variance
        prediction = Prediction(
            quantity=Quantity.GRPO_DISPLACEMENT_NORM,
            law=ChiLaw(math.sqrt(walk.variance * run.dim / df), df, 2 / error**2),
            label="mean-field",
            source=OURS,
            assumptions=(kind, "AdamW in place, emulated on the base weights"),
            step=steps,
        )
        pairs.append(paired(prediction, measured, where=place, source=run.path.name))
    return pairs


def _run_rules(run: OwnRun) -> tuple[ESConfig, Array]:
    """Return the rules of a run for the emulator, and its coefficients, shape (T, noise vectors)."""
    config = run.es
    for name, plain in (("noise", "gaussian"), ("module_sigma", ()), ("anchor_l1", 0.0), ("momentum", 0.0)):
        if (value := getattr(config, name)) != plain:
            raise DataError(
                f"{run.path}: rounding in {config.dtype} with {name} = {value} is not emulated",
                "compare its norms with estheory predict",
            )
    estimator = config.estimator
    if estimator.paired and config.restore_pairs:
        raise DataError(f"{run.path}: restore pairs of antithetic members are not emulated", "judge other runs")
    with reading(run.path):
        z = np.array([known(row.coefficients, "coefficient") for row in run.steps])
    rules, z = config.rules(run.dim), estimator.noise_weights(z)
    if estimator.directions < config.population:  # half as many noise vectors; alpha / N stays
        rules = replace(rules, antithetic=False, alpha=config.alpha / 2, population=estimator.directions)
    return rules, z


def _norm_law(emulation: Emulation, step: int, plain: float, tensor: str | None) -> ChiLaw | PointLaw | None:
    """Return the law of the norm of a tensor's displacement, or of the whole model's; None where it has no chi law."""
    sizes = dict(zip(emulation.design.names, map(int, emulation.design.sizes), strict=True))
    spreads, effects = emulation.tensor_spreads(step), emulation.tensor_effects(step)
    if tensor is None:
        effect: RoundingEffect = emulation.effect(step)
        noise = math.sqrt(math.fsum((sizes[n] * effects[n].variance * spreads[n]) ** 2 for n in sizes))
        total = math.fsum(sizes[n] * effects[n].variance for n in sizes)
        count, spread = sum(sizes.values()), noise / total if total else 0.0
    else:
        effect, count, spread = effects[tensor], sizes[tensor], spreads[tensor]
    if plain == 0.0:  # every step tied: only restore pairs move the weights
        return None if effect.variance else PointLaw(0.0)
    if not effect.variance > 0 or not spread > 0 or 2 / spread**2 < FEWEST:
        return None
    df, error = 2 / spread**2, STUDENT * effect.variance_stderr / effect.variance
    mixing = 2 / error**2 if error else math.inf
    return ChiLaw(math.sqrt(plain * effect.variance * count / df), df, mixing)


def _tensor_pairs(
    run: OwnRun, emulation: Emulation, plain: float, tensors: Mapping[str, tuple[int, float]]
) -> Iterator[Pair]:
    step = len(run.steps)
    for name, (size, norm) in tensors.items():
        law = _norm_law(emulation, step, plain, name) if plain > 0 and name in emulation.design.names else None
        if isinstance(law, ChiLaw):
            yield _pair(
                run,
                Quantity.EFFECTIVE_DIMENSION_RATIO,
                SquaredLaw(law, 1 / (plain * size)),
                norm**2 / (plain * size),
                step,
                f"tensor:{run.path.name}:{name}",
            )


def _pair(
    run: OwnRun, quantity: Quantity, law: ChiLaw | PointLaw | SquaredLaw, value: float, step: int, where: str
) -> Pair:
    prediction = Prediction(
        quantity=quantity, law=law, label="mean-field", source=OURS, assumptions=(FLAT, EMULATED), step=step
    )
    return paired(prediction, value, where=where, source=run.path.name)
