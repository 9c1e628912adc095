"""Accuracy and drift on held-out prompts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from estheory.measurement.accuracy import accuracy, task_scores
from estheory.measurement.kl import TokenKL, collect_kl, divergences, prompt_logits, prompt_tokens
from estheory.models.decode import check_context, encode_prompts
from estheory.models.load import LoadedModel
from estheory.models.parameters import FlatParameters
from estheory.quantities import Quantity
from estheory.tasks import Example, Task, get_task
from estheory.tasks.few_shot import FewShot

LARGE_DIM = 10_000_000
"""From this many parameters on a forward pass over the prompts costs seconds: fewer prompts and probe directions."""
KL_PROMPTS, LARGE_KL_PROMPTS = 64, 8
EVALUATED = (Quantity.ACCURACY, Quantity.KL_DRIFT)
"""What an evaluation writes, a row each."""

EVALUATION_SEED = 0
"""Draws the held-out prompts: the same ones for every run, so that runs are compared on equal terms."""


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """A task and the prompts it is evaluated on."""

    task: Task
    examples: tuple[Example, ...]


def task_for(loaded: LoadedModel, name: str) -> Task:
    """Return a task in the form that a model reads: compact for a character-level model, few-shot for any other.

    Raises
    ------
    ConfigError
        The task is unknown.
    """
    task = get_task(name)
    words = set(loaded.tokenizer.get_vocab()) - set(loaded.tokenizer.all_special_tokens)
    return task if all(len(word) == 1 for word in words) else FewShot(task)


def held_out(loaded: LoadedModel, task_name: str, n: int) -> HeldOut:
    """Draw the evaluation prompts of a task.

    Raises
    ------
    ConfigError
        The task is unknown or has too few prompts, or a prompt does not fit the model's context.
    """
    task = task_for(loaded, task_name)
    examples = task.examples("test", n, EVALUATION_SEED)
    require_fit(loaded, task, examples)
    return HeldOut(task=task, examples=tuple(examples))


def require_fit(loaded: LoadedModel, task: Task, examples: Sequence[Example]) -> None:
    """Raise `ConfigError` unless the longest prompt and its completion fit the model's context."""
    encoded = encode_prompts(loaded.model, loaded.tokenizer, [example.prompt for example in examples])
    check_context(loaded.model, encoded.ids.shape[1], task.max_new_tokens)


def evaluate(
    loaded: LoadedModel, parameters: FlatParameters, base: Tensor, held: HeldOut, batch_size: int
) -> Iterator[dict[str, object]]:
    """Yield a row of evaluations.jsonl for the accuracy of greedy answers, and one for KL(base || model as it is now).

    Parameters
    ----------
    loaded, parameters
        The model as it is now and its buffer, which is left as it is.
    base : Tensor, shape (dim,)
        The parameters before training.
    held
        Task and prompts.
    batch_size
        Prompts decoded at once.
    """
    scores = task_scores(loaded.model, loaded.tokenizer, held.task, held.examples, batch_size=batch_size)
    right = accuracy(scores)
    yield {"quantity": right.quantity, "value": right.value, "stderr": right.stderr, "n": len(scores)}
    kl = kl_from_base(loaded, parameters, base, held)
    yield {
        "quantity": Quantity.KL_DRIFT,
        "value": kl.value,
        "stderr": kl.stderr if len(kl.sums) > 1 else 0.0,
        "n": len(kl.sums),
    }


def kl_prompts(loaded: LoadedModel, dim: int, held: HeldOut) -> list[list[int]]:
    """Return the tokens of the prompts on which a task's KL is probed and measured, the same ones for both."""
    count = LARGE_KL_PROMPTS if dim >= LARGE_DIM else KL_PROMPTS
    return prompt_tokens(loaded.tokenizer, [example.prompt for example in held.examples[:count]])


def kl_from_base(loaded: LoadedModel, parameters: FlatParameters, base: Tensor, held: HeldOut) -> TokenKL:
    """Return KL(base || model as it is now) in nats per token; the parameters are as before afterwards."""
    prompts = kl_prompts(loaded, parameters.dim, held)
    tuned = parameters.vector.clone()
    try:
        parameters.vector.copy_(base)
        base_logits = [logits.clone() for logits in prompt_logits(loaded.model, prompts)]
    finally:
        parameters.vector.copy_(tuned)
    tuned_logits = prompt_logits(loaded.model, prompts)
    return collect_kl(divergences(a, b) for a, b in zip(base_logits, tuned_logits, strict=True))
