"""Scores of a model on a task's examples: greedily decoded, or the likeliest of the given options."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from estheory.errors import ConfigError, DataError
from estheory.models.decode import Sampler, answer_log_probabilities, encode_prompts, generate
from estheory.models.parameters import FlatParameters
from estheory.quantities import Measurement, Quantity
from estheory.tasks.task import Example, Task

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


LOGIT_BUDGET = 1 << 27
"""Logits that a batch of log-probabilities may hold: half a gigabyte in float32."""

Scoring = Literal["accuracy", "partial", "logprob"]


class ExampleScorer:
    """Scores a model on the same examples over and over, forward passes only.

    `model`, `tokenizer`: a decoder-only model in evaluation mode and its tokenizer.
    `task`: the task that scores.
    `examples`: P prompts with their answers.
    `scoring`: ``accuracy``: 1 if right and 0 if not. ``partial``: graded, in [0, 1]. ``logprob``: log-probability of
    the reference in nat, teacher-forced. Examples with options are not decoded. Their accuracy is 1 if the reference
    has the largest log-likelihood a character among the options (1/k if it is one of k largest, 0 if not), the
    ``acc_norm`` of lm-evaluation-harness; their graded score is the reference's share in the softmax of these numbers.
    `half_products`: whether matrix products are rounded to bfloat16 (torch's autocast); weights are not.
    Raises ConfigError: if some examples have options and some have none.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        task: Task,
        examples: Sequence[Example],
        scoring: Scoring = "accuracy",
        half_products: bool = False,
    ) -> None:
        self._model, self._tokenizer, self._task, self._scoring = model, tokenizer, task, scoring
        self._half_products = half_products
        self._examples = list(examples)
        with_options = sum(bool(example.options) for example in self._examples)
        if with_options not in (0, len(self._examples)):
            raise ConfigError(f"some examples of task {task.name} have options and some have none", "score them apart")
        self._chooses = with_options > 0
        self._encoded = None
        if scoring != "logprob" and not self._chooses:
            self._encoded = encode_prompts(model, tokenizer, [example.prompt for example in self._examples])

    def scores(self, sampler: Sampler | None = None) -> NDArray[np.float64]:
        """Score each example with the model as it is now.

        `sampler`: draws the answers; None decodes greedily.
        """
        # left after each member: autocast keeps rounded weights until then
        with torch.autocast(self._model.device.type, torch.bfloat16, enabled=self._half_products):
            return self._scores(sampler)

    def _scores(self, sampler: Sampler | None) -> NDArray[np.float64]:
        if self._scoring == "logprob":
            return self._log_probabilities(
                [example.prompt for example in self._examples],
                [example.reference for example in self._examples],
                include_end=not self._chooses,
            )
        if self._encoded is None:
            return self._option_scores()
        texts = generate(
            self._model,
            self._tokenizer,
            self._encoded,
            self._task.max_new_tokens,
            single_line=self._task.single_line,
            sampler=sampler,
        )
        score = self._task.partial_score if self._scoring == "partial" else self._task.score
        return np.array([score(e, text) for e, text in zip(self._examples, texts, strict=True)], dtype=np.float64)

    def _option_scores(self) -> NDArray[np.float64]:
        pairs = [(example.prompt, option) for example in self._examples for option in example.options]
        totals = self._log_probabilities([p for p, _ in pairs], [option for _, option in pairs], include_end=False)
        values = totals / [len(option.strip()) for _, option in pairs]
        scores, start = [], 0
        for example in self._examples:
            own = values[start : start + len(example.options)]
            start += len(own)
            right = example.options.index(example.reference)
            if self._scoring == "partial":
                weights = np.exp(own - own.max())
                scores.append(weights[right] / weights.sum())
            else:
                largest = own == own.max()
                scores.append(largest[right] / largest.sum() if np.isfinite(own).all() else np.nan)
        return np.array(scores, dtype=np.float64)

    def _log_probabilities(
        self, prompts: Sequence[str], answers: Sequence[str], *, include_end: bool
    ) -> NDArray[np.float64]:
        """Return log P(answer | prompt) in nat; texts of like length share a batch."""
        order = np.argsort([len(p) + len(a) for p, a in zip(prompts, answers, strict=True)], kind="stable")
        totals = np.empty(len(prompts))
        vocabulary = getattr(self._model.config, "vocab_size", 1)
        longest = max(map(len, answers)) + 2  # no tokenizer needs more tokens than characters, as a rule
        rows = max(1, min(64, LOGIT_BUDGET // (vocabulary * longest)))
        for start in range(0, len(order), rows):
            batch = order[start : start + rows]
            totals[batch] = answer_log_probabilities(
                self._model,
                self._tokenizer,
                [prompts[k] for k in batch],
                [answers[k] for k in batch],
                include_end=include_end,
            ).double().cpu().numpy()  # fmt: skip
        return totals


def task_scores(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    examples: Sequence[Example],
    *,
    batch_size: int = 64,
) -> NDArray[np.float64]:
    """Score each example, 1 if right and 0 if not, as `ExampleScorer` does."""
    batches = [examples[start : start + batch_size] for start in range(0, len(examples), batch_size)]
    scores = [ExampleScorer(model, tokenizer, task, batch).scores() for batch in batches]
    return np.concatenate(scores) if scores else np.empty(0)


def task_scorers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    examples: Sequence[Example],
    scoring: Scoring,
    *,
    batch_size: int = 200,
) -> Callable[[], NDArray[np.float64]]:
    """Return a function that scores the model as it then is on the same examples, in batches."""
    batches = [examples[start : start + batch_size] for start in range(0, len(examples), batch_size)]
    scorers = [ExampleScorer(model, tokenizer, task, batch, scoring) for batch in batches]
    return lambda: np.concatenate([scorer.scores() for scorer in scorers])


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

    Raises
    ------
    ConfigError, DataError
        If there is no such model or task.
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
