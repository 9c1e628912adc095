"""Scores of a model on a task's examples, greedily decoded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from estheory.errors import DataError
from estheory.models.decode import generate
from estheory.models.parameters import FlatParameters
from estheory.quantities import Measurement, Quantity
from estheory.tasks.task import Example, Task

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def task_scores(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    examples: Sequence[Example],
    *,
    batch_size: int = 64,
) -> NDArray[np.float64]:
    """Score each example's completion, 1 if right and 0 if not.

    Parameters
    ----------
    model, tokenizer
        A decoder-only model in evaluation mode and its tokenizer.
    task
        The task that scores.
    examples
        P prompts with their answers.
    batch_size
        Prompts decoded together.

    Returns
    -------
    ndarray, shape (P,)
    """
    scores: list[float] = []
    for start in range(0, len(examples), batch_size):
        batch = examples[start : start + batch_size]
        texts = generate(model, tokenizer, [example.prompt for example in batch], task.max_new_tokens)
        scores += [task.score(example, text) for example, text in zip(batch, texts, strict=True)]
    return np.array(scores, dtype=np.float64)


def task_evaluator(
    model: str, task: str, *, prompts: int, seed: int, batch_size: int = 200
) -> tuple[FlatParameters, Callable[[], NDArray[np.float64]]]:
    """Load a model for scoring, wherever its parameters are moved to, on held-out examples of a task.

    Parameters
    ----------
    model
        As :func:`estheory.models.load.load_model` takes it.
    task
        Name of the task.
    prompts, seed
        Number and seed of the test examples.
    batch_size
        Prompts decoded together.

    Returns
    -------
    tuple
        The parameters, and a function that returns the scores of the model as it is, shape (prompts,).
    """
    from estheory.models.load import load_model
    from estheory.tasks import get_task

    loaded, chosen = load_model(model), get_task(task)
    examples = chosen.examples("test", prompts, seed)

    def evaluate() -> NDArray[np.float64]:
        return task_scores(loaded.model, loaded.tokenizer, chosen, examples, batch_size=batch_size)

    return FlatParameters(loaded.model), evaluate


def accuracy(scores: NDArray[np.float64], *, where: str = "", step: int | None = None, source: str = "") -> Measurement:
    """Return the mean score with its standard error over examples.

    The standard error is that of a proportion with one right and one wrong answer added, so that a perfect
    score does not look certain; for partial credit it errs on the large side.

    Parameters
    ----------
    scores : ndarray, shape (P,)
        Scores in [0, 1].

    Raises
    ------
    DataError
        If there are no scores.
    """
    count = scores.size
    if not count:
        raise DataError("no examples were scored", "give at least one")
    shifted = (scores.sum() + 1) / (count + 2)
    return Measurement(
        quantity=Quantity.ACCURACY,
        value=float(scores.mean()),
        stderr=float(np.sqrt(shifted * (1 - shifted) / (count + 2))),
        step=step,
        where=where,
        source=source,
    )
