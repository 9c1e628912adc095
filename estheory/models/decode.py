"""Batched decoding with a KV cache, and teacher-forced log-probabilities of answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from estheory.errors import ConfigError, DataError
from estheory.models.prefill import EncodedPrompts, left_padded, prefill, shared_tokens, token_positions


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """Draws the tokens of answers.

    Attributes
    ----------
    generator
        Of the random numbers.
    temperature
        Divides the logits.
    top_p
        Only the likeliest tokens, those whose probabilities first sum to this, are drawn.
    """

    generator: torch.Generator
    temperature: float = 1.0
    top_p: float = 1.0

    def draw(self, logits: Tensor) -> Tensor:
        """Return a token for each row of logits, shape (n,) for (n, vocabulary)."""
        probabilities = (logits.float() / self.temperature).softmax(-1)
        if self.top_p < 1:
            ordered, tokens = probabilities.sort(-1, descending=True)
            ordered.masked_fill_(ordered.cumsum(-1) - ordered >= self.top_p, 0)
            probabilities = torch.zeros_like(probabilities).scatter_(-1, tokens, ordered)
        return torch.multinomial(probabilities, 1, generator=self.generator)[:, 0]


def encode_prompts(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str]
) -> EncodedPrompts:
    """Tokenize prompts for `generate`, on the model's device. Encode once what is decoded many times."""
    if not prompts:
        raise ConfigError("there are no prompts to decode", "give at least one prompt")
    return left_padded(_token_ids(tokenizer, prompts), tokenizer, model.device)


@torch.inference_mode()
def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str] | EncodedPrompts,
    max_new_tokens: int,
    *,
    single_line: bool = True,
    sampler: Sampler | None = None,
) -> list[str]:
    """Decode until the end token, a newline, or max_new_tokens.

    `prompts`: n texts, decoded as one batch, or what `encode_prompts` made of them.
    `max_new_tokens`: most tokens to generate for each prompt, at least 1.
    `sampler`: draws the tokens; None decodes greedily.
    Result: n completions, without the end token and, if of a single line, without the newline and what follows it.

    Examples
    --------
    >>> from estheory.models.load import load_model
    >>> from estheory.tasks import get_task
    >>> loaded, [example] = load_model("tiny-lm"), get_task("reversal").examples("test", 1, seed=0)
    >>> [answer] = generate(loaded.model, loaded.tokenizer, [example.prompt], max_new_tokens=9)
    >>> len(answer) <= 9
    True
    """
    encoded = prompts if isinstance(prompts, EncodedPrompts) else encode_prompts(model, tokenizer, prompts)
    stop_ids = stop_token_ids(tokenizer) if single_line else (tokenizer.eos_token_id,)
    if max_new_tokens < 1:
        raise ConfigError(f"{max_new_tokens} new tokens were asked for", "ask for at least 1")
    check_context(model, encoded.ids.shape[1], max_new_tokens)
    stops = torch.tensor(stop_ids, device=encoded.ids.device)
    generated = _decode(model, encoded, max_new_tokens, stops, sampler)
    rows = []
    for row in generated.tolist():
        end = next((index for index, token in enumerate(row) if token in stop_ids), len(row))
        rows.append(row[: end + 1])
    texts = tokenizer.batch_decode(rows, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return [text.split("\n", 1)[0] for text in texts] if single_line else list(texts)


@torch.inference_mode()
def answer_log_probabilities(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    answers: Sequence[str],
    *,
    include_end: bool = True,
) -> Tensor:
    """Return the log-probability of each answer given its prompt, teacher-forced, in nat.

    `model`, `tokenizer`: a decoder-only language model in eval mode and its tokenizer, with a pad token.
    `prompts`, `answers`: n texts each; an answer is tokenized apart from its prompt.
    `include_end`: whether the end token after the answer counts: with it, the sum is the log-probability that sampling
    completes the prompt with exactly the answer; without it, that it starts with the answer.
    """
    if len(prompts) != len(answers) or not prompts:
        raise ConfigError(f"{len(prompts)} prompts do not pair with {len(answers)} answers", "give one answer a prompt")
    end = [tokenizer.eos_token_id] if include_end else []
    answer_ids = [ids + end for ids in _token_ids(tokenizer, answers, add_special_tokens=False)]
    rows = [prompt + answer for prompt, answer in zip(_token_ids(tokenizer, prompts), answer_ids, strict=True)]
    encoded = left_padded(rows, tokenizer, model.device)
    check_context(model, encoded.ids.shape[1], 0)
    longest = max(map(len, answer_ids))
    logits = prefill(model, encoded, shared_tokens(model, encoded, spare=longest + 1), keep=longest + 1)[0]
    logits = logits[:, :-1].to(torch.promote_types(logits.dtype, torch.float32))
    log_probabilities = logits.log_softmax(-1)
    picked = log_probabilities.gather(-1, encoded.ids[:, -longest:, None])[..., 0]
    lengths = torch.tensor([len(ids) for ids in answer_ids], device=picked.device)
    is_answer = torch.arange(longest, device=picked.device) >= longest - lengths[:, None]
    total: Tensor = (picked * is_answer).sum(-1)
    return total


def check_context(model: PreTrainedModel, prompt_tokens: int, max_new_tokens: int) -> None:
    """Check that a prompt and its completion fit the model's context."""
    context = getattr(model.config, "max_position_embeddings", None)
    if context is not None and prompt_tokens + max_new_tokens > context:
        raise ConfigError(
            f"a prompt of {prompt_tokens} tokens and {max_new_tokens} new ones exceed the model's context of {context}",
            "use shorter prompts or fewer new tokens",
        )


@lru_cache(maxsize=8)
def stop_token_ids(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Return the ids of the end token and of every token that holds a newline."""
    marks = ("\n", "\u010a", "<0x0A>")  # as is, in byte-level alphabets, and as a byte token
    suspects = [index for token, index in tokenizer.get_vocab().items() if any(mark in token for mark in marks)]
    newlines = {index for index in suspects if "\n" in tokenizer.decode([index])}
    return tuple(sorted(newlines | {tokenizer.eos_token_id}))


def _decode(
    model: PreTrainedModel,
    encoded: EncodedPrompts,
    max_new_tokens: int,
    stop_ids: Tensor,
    sampler: Sampler | None,
) -> Tensor:
    """Return the generated ids, shape [n, at most max_new_tokens]; what follows a stop token is meaningless."""
    logits, cache, mask = prefill(model, encoded, shared_tokens(model, encoded), keep=1)
    positions = token_positions(encoded)
    finished = torch.zeros(len(encoded.ids), dtype=torch.bool, device=encoded.ids.device)
    generated: list[Tensor] = []
    while True:
        last = logits[:, -1]
        if bool(last.isnan().any()):
            raise DataError("the model gives logits that are not numbers", "its weights have moved too far")
        chosen = last.argmax(-1) if sampler is None else sampler.draw(last)
        generated.append(chosen)
        finished |= torch.isin(chosen, stop_ids)
        if len(generated) == max_new_tokens or bool(finished.all()):
            return torch.stack(generated, dim=1)
        positions = positions[:, -1:] + 1
        if mask is not None:
            mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
        logits = model(
            input_ids=chosen[:, None],
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits


def _token_ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], **options: Any) -> list[list[int]]:
    rows: list[list[int]] = tokenizer(list(texts), **options)["input_ids"]
    for text, row in zip(texts, rows, strict=True):
        if not row:
            raise ConfigError(f"the text {text!r} has no token", "give texts that are not empty")
    return rows
