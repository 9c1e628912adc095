"""Task scores on the shipped model against decoding one prompt at a time, and the standard error of a proportion."""

from __future__ import annotations

import math

import numpy as np
import pytest

from estheory.errors import DataError
from estheory.measurement.accuracy import accuracy, task_scores
from estheory.models.decode import generate
from estheory.models.load import load_model
from estheory.tasks import get_task


def test_scores_are_those_of_single_prompts_in_order():
    loaded, task = load_model("tiny-lm"), get_task("addition")
    examples = task.examples("test", 20, 0)
    single = [
        task.score(e, generate(loaded.model, loaded.tokenizer, [e.prompt], task.max_new_tokens)[0]) for e in examples
    ]
    assert 0 < sum(single) < 20  # both outcomes occur, so the order matters
    np.testing.assert_array_equal(task_scores(loaded.model, loaded.tokenizer, task, examples, batch_size=7), single)


def test_standard_error_is_that_of_a_proportion_and_never_zero():
    rng = np.random.default_rng(0)
    for p in (0.1, 0.5, 0.95):
        rows = [accuracy((rng.random(400) < p).astype(float)) for _ in range(500)]
        values, claims = np.array([r.value for r in rows]), np.array([r.stderr for r in rows])
        assert abs(values.mean() - p) < 5 * values.std() / math.sqrt(500)
        # relative error of a variance of 500 values, and what one answer in 400 adds: at most 1/(400 p (1-p))
        assert abs((claims**2).mean() / values.var() - 1) < 5 * math.sqrt(2 / 500) + 1 / (400 * p * (1 - p))
    perfect = accuracy(np.ones(98), where="addition", step=3)
    assert (perfect.value, perfect.where, perfect.step) == (1.0, "addition", 3)
    assert perfect.stderr == pytest.approx(math.sqrt(0.99 * 0.01 / 100))


def test_no_examples_have_no_accuracy():
    with pytest.raises(DataError, match="no examples"):
        accuracy(np.array([]))
