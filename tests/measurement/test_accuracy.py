"""Task scores on the shipped model against decoding one prompt at a time, and the standard error of a proportion."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from estheory.errors import ConfigError, DataError
from estheory.measurement.accuracy import ExampleScorer, accuracy, task_scores
from estheory.models.decode import generate
from estheory.models.load import LoadedModel, load_model
from estheory.tasks import Example, get_task

ROUNDING = 64 * 2.0**-23 * 16  # 64 float32 roundings of a log-probability of at most 16 nat


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


def option_examples(n: int = 40) -> list[Example]:
    """Return problems of the choice task, each with its three letters as options, one of them longer."""
    plain = get_task("choice").examples("test", n, seed=2)
    return [Example(prompt=e.prompt, reference=e.reference, options=("A", "B", "C")) for e in plain]


def by_hand(loaded: LoadedModel, prompt: str, answer: str) -> float:
    """Log-probability of an answer, one text at a time and one token after another."""
    ids, total = loaded.tokenizer(prompt)["input_ids"], 0.0
    for token in loaded.tokenizer(answer, add_special_tokens=False)["input_ids"]:
        with torch.inference_mode():
            logits = loaded.model(input_ids=torch.tensor([ids])).logits[0, -1].double()
        total += float(logits.log_softmax(-1)[token])
        ids = [*ids, token]
    return total


def test_options_are_compared_by_log_likelihood_a_character() -> None:
    loaded = load_model("tiny-lm")
    examples = option_examples()
    task = get_task("choice")
    right = ExampleScorer(loaded.model, loaded.tokenizer, task, examples).scores()
    share = ExampleScorer(loaded.model, loaded.tokenizer, task, examples, "partial").scores()
    logs = ExampleScorer(loaded.model, loaded.tokenizer, task, examples, "logprob").scores()
    for k, example in enumerate(examples):
        values = {option: by_hand(loaded, example.prompt, option) for option in example.options}
        best = max(values, key=values.__getitem__)
        assert right[k] == float(best == example.reference)
        assert logs[k] == pytest.approx(values[example.reference], abs=ROUNDING)
        expected = np.exp(values[example.reference]) / np.exp(list(values.values())).sum()
        assert share[k] == pytest.approx(expected, abs=ROUNDING)
    assert right.mean() > 1 / 3 + 0.2  # the model was trained on the task: right is the reference, not the first
    unequal = [replace(e, options=(e.reference, "sodium sodium")) for e in examples[:8]]
    share = ExampleScorer(loaded.model, loaded.tokenizer, task, unequal, "partial").scores()
    for k, example in enumerate(unequal):
        own, other = (by_hand(loaded, example.prompt, option) / len(option) for option in example.options)
        assert share[k] == pytest.approx(1 / (1 + np.exp(other - own)), abs=ROUNDING)


def test_ties_count_as_a_guess_and_mixed_examples_are_refused() -> None:
    loaded, task = load_model("tiny-lm"), get_task("choice")
    tied = [replace(e, options=(e.reference, e.reference)) for e in option_examples(4)]
    assert ExampleScorer(loaded.model, loaded.tokenizer, task, tied).scores().tolist() == [0.5] * 4
    with pytest.raises(ConfigError, match="some examples of task choice have options"):
        ExampleScorer(loaded.model, loaded.tokenizer, task, [*option_examples(2), Example(prompt="a", reference="b")])


def test_batches_do_not_change_the_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, task, examples = load_model("tiny-lm"), get_task("choice"), option_examples()
    whole = ExampleScorer(loaded.model, loaded.tokenizer, task, examples, "partial").scores()
    monkeypatch.setattr("estheory.measurement.accuracy.LOGIT_BUDGET", 1)
    one_by_one = ExampleScorer(loaded.model, loaded.tokenizer, task, examples, "partial").scores()
    assert one_by_one == pytest.approx(whole, abs=ROUNDING)
