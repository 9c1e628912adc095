"""Greedy decoding against transformers' own, and log-probabilities against one unpadded forward a text."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import MistralConfig
from transformers import MistralForCausalLM as Mistral

from estheory.errors import ConfigError
from estheory.models.decode import (
    EncodedPrompts,
    Sampler,
    answer_log_probabilities,
    encode_prompts,
    generate,
    shared_tokens,
    stop_token_ids,
)
from estheory.models.load import LoadedModel, load_model
from estheory.tasks import get_task, task_names

# At most 64 tokens pass through sums of at most 128 terms in 2 layers (under 20 sums deep): relative rounding
# of the logits (|logit| < 100) below 20 * 128 * 2^-53 each, times 9 tokens an answer.
ROUNDING = 9 * 100 * 20 * 128 * 2.0**-53


@pytest.fixture(scope="module")
def tiny() -> LoadedModel:
    return load_model("tiny-lm")


@pytest.fixture(scope="module")
def exact() -> LoadedModel:
    """Return tiny-lm in float64, where rounding cannot turn a near tie."""
    return load_model("tiny-lm", dtype=torch.float64)


def prompts_of(n: int, split: Any = "test") -> list[str]:
    return [example.prompt for name in task_names() for example in get_task(name).examples(split, n, seed=1)]


def transformers_completions(loaded: LoadedModel, prompts: list[str], max_new_tokens: int) -> list[str]:
    batch = loaded.tokenizer(prompts, return_tensors="pt", padding=True)
    stop = list(stop_token_ids(loaded.tokenizer))
    model: Any = loaded.model
    ids = model.generate(**batch, do_sample=False, max_new_tokens=max_new_tokens, eos_token_id=stop)
    new = ids[:, batch["input_ids"].shape[1] :]
    texts = loaded.tokenizer.batch_decode(new, skip_special_tokens=True)
    return [text.split("\n", 1)[0] for text in texts]


def test_equals_transformers_on_prompts_of_one_length(tiny: LoadedModel) -> None:
    prompts = prompts_of(64)
    assert generate(tiny.model, tiny.tokenizer, prompts, 9) == transformers_completions(tiny, prompts, 9)


def test_equals_transformers_on_padded_prompts(tiny: LoadedModel) -> None:
    prompts = [prompt.lstrip(".") for prompt in prompts_of(64)]
    assert len({len(prompt) for prompt in prompts}) > 5
    assert generate(tiny.model, tiny.tokenizer, prompts, 9) == transformers_completions(tiny, prompts, 9)


def test_padding_does_not_change_a_completion(exact: LoadedModel) -> None:
    prompts = [prompt.lstrip(".") for prompt in prompts_of(12)]
    alone = [generate(exact.model, exact.tokenizer, [prompt], 9)[0] for prompt in prompts]
    assert generate(exact.model, exact.tokenizer, prompts, 9) == alone


def test_stops_at_the_first_stop_token(tiny: LoadedModel) -> None:
    prompts = prompts_of(16)
    short = generate(tiny.model, tiny.tokenizer, prompts, 9)
    long = generate(tiny.model, tiny.tokenizer, prompts, 40)
    ended = [index for index, text in enumerate(short) if len(text) < 9]
    assert len(ended) > len(prompts) // 2
    assert all(short[index] == long[index] for index in ended)
    assert generate(tiny.model, tiny.tokenizer, prompts, 1) == [text[:1] for text in short]


def few_shot(n: int, *, pad: bool) -> tuple[list[str], list[str]]:
    """Return n prompts with the same worked examples before unlike questions, of one length or not, and answers."""
    examples = get_task("addition").examples("train", n, seed=4)
    questions = [example.prompt if pad else example.prompt.lstrip(".") for example in examples]
    return [f"12+34=46\n7+88=95\n{question}" for question in questions], [example.reference for example in examples]


@pytest.mark.parametrize("pad", [True, False])
def test_what_all_prompts_begin_with_passes_once(exact: LoadedModel, pad: bool) -> None:
    prompts, answers = few_shot(48, pad=pad)
    encoded = encode_prompts(exact.model, exact.tokenizer, prompts)
    assert (encoded.mask is None) == pad
    shared = shared_tokens(exact.model, encoded)
    assert shared >= len("12+34=46\n7+88=95\n")
    assert len({prompt[:shared] for prompt in prompts}) == 1 < len({prompt[: shared + 1] for prompt in prompts})
    assert generate(exact.model, exact.tokenizer, encoded, 9) == [
        generate(exact.model, exact.tokenizer, [prompt], 9)[0] for prompt in prompts
    ]
    found = answer_log_probabilities(exact.model, exact.tokenizer, prompts, answers)
    expected = torch.stack(
        [reference_log_probability(exact, *pair, True) for pair in zip(prompts, answers, strict=True)]
    )
    assert float((found - expected).abs().max()) < ROUNDING


def test_nothing_is_shared_where_it_would_not_pay_or_not_hold(tiny: LoadedModel) -> None:
    prompts, _ = few_shot(48, pad=True)
    assert shared_tokens(tiny.model, encode_prompts(tiny.model, tiny.tokenizer, prompts[:1])) == 0
    assert shared_tokens(tiny.model, encode_prompts(tiny.model, tiny.tokenizer, prompts[:4])) == 0
    apart = [chr(ord("a") + k % 26) + prompt for k, prompt in enumerate(prompts)]
    assert shared_tokens(tiny.model, encode_prompts(tiny.model, tiny.tokenizer, apart)) == 0
    same = encode_prompts(tiny.model, tiny.tokenizer, prompts[:1] * 48)
    assert shared_tokens(tiny.model, same) == same.ids.shape[1] - 1  # the last token's logits are wanted of each row
    window = Mistral(MistralConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1,
                                   intermediate_size=8, vocab_size=80, sliding_window=16))  # fmt: skip
    assert shared_tokens(window, same) == 0


def test_newline_stops_as_the_end_token_does() -> None:
    loaded = load_model("tiny-lm")
    newline, end = (loaded.tokenizer.convert_tokens_to_ids(token) for token in ("\n", loaded.tokenizer.eos_token))
    assert stop_token_ids(loaded.tokenizer) == tuple(sorted((newline, end)))
    before = generate(loaded.model, loaded.tokenizer, prompts_of(8), 9)
    embedding = loaded.model.get_input_embeddings().weight  # tied: swapping two rows swaps the two tokens' logits
    with torch.no_grad():
        embedding[[newline, end]] = embedding[[end, newline]]
    assert generate(loaded.model, loaded.tokenizer, prompts_of(8), 9) == before


def test_encoded_prompts_give_the_same(tiny: LoadedModel) -> None:
    for prompts in (prompts_of(4), [prompt.lstrip(".") for prompt in prompts_of(4)]):
        encoded = encode_prompts(tiny.model, tiny.tokenizer, prompts)
        assert isinstance(encoded, EncodedPrompts)
        assert generate(tiny.model, tiny.tokenizer, encoded, 9) == generate(tiny.model, tiny.tokenizer, prompts, 9)


def reference_log_probability(loaded: LoadedModel, prompt: str, answer: str, end: bool) -> Tensor:
    """Sum the log-probabilities of one answer from one forward without cache, padding or mask."""
    start = loaded.tokenizer(prompt)["input_ids"]
    rest = loaded.tokenizer(answer)["input_ids"] + [loaded.tokenizer.eos_token_id] * end
    with torch.no_grad():
        logits = loaded.model(torch.tensor([start + rest])).logits[0].log_softmax(-1)
    return sum((logits[len(start) - 1 + index, token] for index, token in enumerate(rest)), torch.zeros(()))


@pytest.mark.parametrize("end", [True, False])
def test_log_probabilities_equal_one_forward_a_text(exact: LoadedModel, end: bool) -> None:
    examples = [example for name in task_names() for example in get_task(name).examples("test", 8, seed=2)]
    prompts = [example.prompt.lstrip(".") for example in examples]
    answers = [example.reference for example in examples]
    found = answer_log_probabilities(exact.model, exact.tokenizer, prompts, answers, include_end=end)
    expected = torch.stack(
        [reference_log_probability(exact, *pair, end) for pair in zip(prompts, answers, strict=True)]
    )
    assert found.shape == (len(examples),)
    assert float((found - expected).abs().max()) < ROUNDING
    assert float(found.max()) < 0.0


def test_end_token_only_lowers_the_probability(exact: LoadedModel) -> None:
    prompts = prompts_of(4)
    answers = ["1"] * len(prompts)
    whole = answer_log_probabilities(exact.model, exact.tokenizer, prompts, answers)
    start = answer_log_probabilities(exact.model, exact.tokenizer, prompts, answers, include_end=False)
    assert bool((whole < start).all())


def test_one_character_answers_exhaust_the_first_token(exact: LoadedModel) -> None:
    vocabulary = [token for token in exact.tokenizer.get_vocab() if len(token) == 1]
    prompts = [prompts_of(1)[0]] * len(vocabulary)
    total = answer_log_probabilities(exact.model, exact.tokenizer, prompts, vocabulary, include_end=False).exp().sum()
    specials = 3  # padding, end and unknown have the rest
    assert len(vocabulary) == len(exact.tokenizer) - specials
    assert 0.9 < float(total) < 1.0


def test_greedy_answer_is_the_likeliest_of_its_length_one_neighbours(exact: LoadedModel) -> None:
    prompts = [example.prompt for example in get_task("choice").examples("test", 50, seed=3)]
    completions = generate(exact.model, exact.tokenizer, prompts, 3)
    by_letter = torch.stack(
        [
            answer_log_probabilities(exact.model, exact.tokenizer, prompts, [letter] * 50, include_end=False)
            for letter in "ABC"
        ]
    )
    assert ["ABC"[index] for index in by_letter.argmax(0).tolist()] == [text[:1] for text in completions]


def test_bad_requests_are_refused(tiny: LoadedModel) -> None:
    with pytest.raises(ConfigError, match="a prompt of 125 tokens and 9 new ones exceed the model's context of 128"):
        generate(tiny.model, tiny.tokenizer, ["1" * 125], 9)
    with pytest.raises(ConfigError, match="exceed the model's context"):
        answer_log_probabilities(tiny.model, tiny.tokenizer, ["1" * 125], ["2345"])
    with pytest.raises(ConfigError, match="no prompts"):
        generate(tiny.model, tiny.tokenizer, [], 9)
    with pytest.raises(ConfigError, match="has no token"):
        generate(tiny.model, tiny.tokenizer, ["1+1=", ""], 9)
    with pytest.raises(ConfigError, match="2 prompts do not pair with 1 answers"):
        answer_log_probabilities(tiny.model, tiny.tokenizer, ["1", "2"], ["3"])
    with pytest.raises(ConfigError, match="0 new tokens"):
        generate(tiny.model, tiny.tokenizer, ["1+1="], 0)


def test_a_sampler_draws_from_the_tempered_and_cut_law() -> None:
    # Counts of 40,000 draws are within 5.5 standard errors of their means: false alarms below 1e-6 over all tokens.
    probabilities, draws = torch.tensor([0.5, 0.25, 0.15, 0.1]), 40_000
    logits = (probabilities.log() + 3).expand(draws, -1)
    tempered = probabilities.sqrt() / probabilities.sqrt().sum()
    cut = torch.tensor([2 / 3, 1 / 3, 0, 0])
    laws = {(1.0, 1.0): probabilities, (2.0, 1.0): tempered, (1.0, 0.6): cut, (1.0, 0.5): torch.tensor([1.0, 0, 0, 0])}
    seen = {}
    for temperature, top_p in laws:
        generator = torch.Generator().manual_seed(0)
        drawn = Sampler(generator=generator, temperature=temperature, top_p=top_p).draw(logits)
        seen[temperature, top_p] = drawn.bincount(minlength=4) / draws
    for settings, law in laws.items():
        assert ((seen[settings] - law).abs() <= 5.5 * (law * (1 - law) / draws).sqrt()).all()
    assert ((seen[2.0, 1.0] - probabilities).abs() > 5.5 * (probabilities * (1 - probabilities) / draws).sqrt()).any()
