"""Scores of a model on a task's examples, greedily decoded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from estheory.errors import DataError
from estheory.models.decode import generate
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
