"""Exact gradient and curvature of the log-probability reward of a language model, for what forward passes estimate.

The reward is that of runs with ``--reward logprob``: the mean over prompts of the log-probability of the reference
answer, end token included, teacher-forced. It is differentiable, so that ||g||, the cosine of a displacement with g,
and the curvature can be had without noise of members; greedy accuracy is not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from estheory.errors import ConfigError, DataError
from estheory.measurement.curvature import curvature_product, ggn_product, reward_gradient
from estheory.measurement.matrix_probes import ProbedMatrix, largest_eigenvalues, trace_by_random_signs
from estheory.measurement.probes import PROBE_STEP
from estheory.models.load import LoadedModel, load_model
from estheory.models.noise import MemberNoise
from estheory.models.parameters import FlatParameters
from estheory.tasks import get_task

if TYPE_CHECKING:
    from estheory.tasks.task import Example


@dataclass(frozen=True, kw_only=True)
class RewardCurvature:
    """Gradient and curvature of the mean log-probability of reference answers.

    Attributes
    ----------
    gradient_norm
        ||g|| of the expected reward (nat / weight): the square is unbiased, from different groups of prompts.
    cosines
        Cosine of each displacement with g; the noise of the measured g is taken out, so that it may exceed 1.
    trace, ggn_trace
        tr Lam and that of its Gauss-Newton part, on these prompts (nat / weight^2).
    eigenvalues, ggn_eigenvalues
        Of largest magnitude, on these prompts.
    """

    gradient_norm: ProbedMatrix
    cosines: Mapping[str, ProbedMatrix]
    trace: ProbedMatrix
    ggn_trace: ProbedMatrix
    eigenvalues: tuple[ProbedMatrix, ...]
    ggn_eigenvalues: tuple[ProbedMatrix, ...]


def reward_curvature(
    model: str,
    task: str,
    *,
    displacements: Mapping[str, Path] | None = None,
    prompts: int = 256,
    groups: int = 16,
    sigma: float = 0.0,
    members: int = 1,
    directions: int = 16,
    eigenvalues: int = 4,
    seed: int = 0,
) -> RewardCurvature:
    """Measure gradient and curvature of a task's log-probability reward at a model.

    `model`: as :func:`estheory.models.load.load_model` takes it; loaded in float32 with eager attention.
    `task`: name of a built-in task; its training prompts.
    `displacements`: checkpoints (safetensors of trained tensors) by label, whose displacement from the model is
    compared with g.
    `prompts`, `groups`: number of prompts, a multiple of the number of groups they are divided into.
    `sigma`, `members`: the gradient of the smoothed reward E R(theta + sigma eps): averaged over so many perturbed
    models a group. Its cosine and norm are those that ES with this sigma sees. 0 for the reward itself.
    `directions`, `eigenvalues`: as for :func:`estheory.measurement.curvature.curvature_probe`; 0 directions leave all
    curvature out (NaN).
    """
    if groups < 2 or prompts % groups or members < 1 or not (sigma >= 0 and math.isfinite(sigma)):
        raise ConfigError(f"{prompts} prompts cannot be divided into {groups} groups", "use 2 or more that divide them")
    loaded = load_model(model)
    loaded.model.set_attn_implementation("eager")
    parameters = FlatParameters(loaded.model)
    examples = get_task(task).examples("train", prompts, seed)
    gradients, spent = _group_gradients(
        loaded, parameters, [examples[group::groups] for group in range(groups)], sigma, members if sigma else 1, seed
    )
    norm = _norm(gradients, spent)
    cosines = {}
    for label, file in (displacements or {}).items():
        moved = torch.empty_like(parameters.vector)
        parameters.read_safetensors(file, moved)
        cosines[label] = _cosine(gradients, moved.double() - parameters.vector.double(), norm)
    z, score = _logits(loaded, examples)
    nothing = ProbedMatrix(value=math.nan, stderr=math.nan, products=0, seconds=0.0)
    if not directions:
        return RewardCurvature(
            gradient_norm=norm, cosines=cosines, trace=nothing, ggn_trace=nothing, eigenvalues=(), ggn_eigenvalues=()
        )

    def hessian(vector: Tensor) -> Tensor:
        return curvature_product(loaded.model, parameters, lambda: score(z()), vector)

    def gauss_newton(vector: Tensor) -> Tensor:
        return ggn_product(loaded.model, parameters, z, score, vector)

    like = parameters.vector
    return RewardCurvature(
        gradient_norm=norm,
        cosines=cosines,
        trace=trace_by_random_signs(hessian, like, directions=directions, seed=seed),
        ggn_trace=trace_by_random_signs(gauss_newton, like, directions=directions, seed=seed),
        eigenvalues=largest_eigenvalues(hessian, like, count=eigenvalues, seed=seed),
        ggn_eigenvalues=largest_eigenvalues(gauss_newton, like, count=eigenvalues, seed=seed),
    )


def _group_gradients(
    loaded: LoadedModel,
    parameters: FlatParameters,
    groups: Sequence[Sequence[Example]],
    sigma: float,
    members: int,
    seed: int,
) -> tuple[Tensor, tuple[int, float]]:
    """Return the mean gradient of each group, float64 of shape (groups, dim), gradients taken and seconds."""
    started, rows = time.perf_counter(), []
    noise = MemberNoise(parameters=parameters, seed=seed)
    with parameters.restored() as base:
        for group, examples in enumerate(groups):
            z, score = _logits(loaded, examples)
            total = torch.zeros(parameters.dim, dtype=torch.float64)
            for member in range(members):
                if sigma:
                    number = group * members + member
                    noise.perturb(parameters.vector, base, sigma=sigma, step=PROBE_STEP, member=number)
                total += reward_gradient(loaded.model, parameters, lambda z=z, score=score: score(z())).double()  # type: ignore[misc]
            rows.append(total / members)
    return torch.stack(rows), (len(groups) * members, time.perf_counter() - started)


def _logits(
    loaded: LoadedModel, examples: Sequence[Example]
) -> tuple[Callable[[], Tensor], Callable[[Tensor], Tensor]]:
    """Return the logits before each answer token, shape (tokens, V), and the mean log-probability as their function."""
    tokenizer = loaded.tokenizer
    rows, places, targets = [], [], []
    for number, example in enumerate(examples):
        prompt = list(tokenizer(example.prompt)["input_ids"])
        answer = [*tokenizer(example.reference, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        places += [(number, len(prompt) - 1 + k) for k in range(len(answer))]
        targets += answer
        rows.append(prompt + answer)
    longest = max(map(len, rows))
    # padding on the right is never attended to by what precedes it
    ids = torch.tensor([row + [tokenizer.eos_token_id] * (longest - len(row)) for row in rows])
    at, wanted = torch.tensor(places).T, torch.tensor(targets)

    def logits() -> Tensor:
        found: Tensor = loaded.model(input_ids=ids, use_cache=False).logits[at[0], at[1]]
        return found

    def score(z: Tensor) -> Tensor:
        return z.log_softmax(-1).gather(1, wanted[:, None]).sum() / len(examples)

    return logits, score


def _norm(gradients: Tensor, spent: tuple[int, float]) -> ProbedMatrix:
    """Return the norm of the mean gradient, the noise of the groups taken out, with a jackknife error over groups."""
    products = (gradients @ gradients.T).numpy()

    def of(chosen: np.ndarray) -> float:
        part = products[np.ix_(chosen, chosen)]
        count = len(chosen)
        return float(part.sum() - np.trace(part)) / (count * (count - 1))

    count = len(products)
    square = of(np.arange(count))
    left_out = np.array([of(np.delete(np.arange(count), k)) for k in range(count)])
    error = math.sqrt((count - 1) / count * float(((left_out - left_out.mean()) ** 2).sum()))
    if square <= 0:
        raise DataError("the gradient is lost in the noise of the prompts", "use more prompts")
    norm = math.sqrt(square)
    return ProbedMatrix(value=norm, stderr=error / (2 * norm), products=spent[0], seconds=spent[1])


def _cosine(gradients: Tensor, displacement: Tensor, norm: ProbedMatrix) -> ProbedMatrix:
    """Return the cosine of a displacement with the mean gradient, and its error over groups."""
    length = float(displacement.norm())
    if not length > 0:
        raise DataError("a displacement has length 0 or is not finite", "give a checkpoint that moved")
    along = (gradients @ displacement).numpy() / (length * norm.value)
    error = float(along.std(ddof=1)) / math.sqrt(len(along))
    value = float(along.mean())
    return ProbedMatrix(
        value=value,
        stderr=math.hypot(error, value * norm.stderr / norm.value),
        products=0,
        seconds=0.0,
    )
