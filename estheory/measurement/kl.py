"""Token-level KL(base || tuned) on fixed prompts, forward passes only.

At every real token of a prompt both models give a distribution of the next token; the divergence of the
second from the first, averaged over all those places, is the drift in nats per token.

Log-probabilities are normalised in float64 whatever the model's dtype. In float32 the normalisation itself
errs by 1e-7 to first order, as large as the divergence of a small probe; in float64 what is left of the
forward pass's rounding enters to second order only, and KL(p || p) is exactly 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from estheory.errors import DataError
from estheory.quantities import Measurement, Quantity

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Prompts = Sequence[Sequence[int]]
"""Token numbers of each prompt."""


@dataclass(frozen=True, kw_only=True)
class TokenKL:
    """KL(base || tuned) per token, and what it was averaged from.

    Attributes
    ----------
    sums
        Divergence summed over the tokens of each prompt (nat).
    tokens
        Number of tokens of each prompt.
    """

    sums: tuple[float, ...]
    tokens: tuple[int, ...]

    @property
    def value(self) -> float:
        """Mean over all tokens of all prompts (nat/token)."""
        return sum(self.sums) / sum(self.tokens)

    @property
    def stderr(self) -> float:
        """Standard error of the ratio of sums, from the spread over prompts; NaN for one prompt."""
        count = len(self.sums)
        if count < 2:
            return math.nan
        residuals = np.array(self.sums) - self.value * np.array(self.tokens)
        return float(np.sqrt(count / (count - 1) * (residuals**2).sum()) / sum(self.tokens))

    def measurement(self, *, where: str = "", step: int | None = None, source: str = "") -> Measurement:
        """Return the drift as a measurement."""
        return Measurement(
            quantity=Quantity.KL_DRIFT,
            value=self.value,
            stderr=self.stderr,
            step=step,
            where=where,
            source=source,
        )


def prompt_tokens(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], *, context: int | None = None
) -> list[list[int]]:
    """Tokenise prompts, each on its own and without padding.

    `context`: longest sequence the model takes, in tokens; None: no limit.
    """
    encoded = [[int(token) for token in tokenizer(prompt)["input_ids"]] for prompt in prompts]
    if not encoded:
        raise DataError("there are no prompts", "give at least one")
    for number, tokens in enumerate(encoded, start=1):
        if not tokens or (context is not None and len(tokens) > context):
            what = f"prompt {number} has {len(tokens)} tokens, the model takes 1 to {context or 'any number'}"
            raise DataError(what, "shorten or drop it")
    return encoded


def token_kl(base: PreTrainedModel, tuned: PreTrainedModel, prompts: Prompts, *, batch_size: int = 16) -> TokenKL:
    """Measure KL(base || tuned) on prompts.

    Parameters
    ----------
    base, tuned
        Two models over one vocabulary, in evaluation mode.
    prompts
        Token numbers of each prompt (see :func:`prompt_tokens`).
    batch_size
        Prompts in one forward pass; the memory is two batches of logits.

    Returns
    -------
    TokenKL

    Raises
    ------
    DataError
        If the vocabularies differ in size or a model gives NaN.
    """
    pairs = zip(
        prompt_logits(base, prompts, batch_size=batch_size),
        prompt_logits(tuned, prompts, batch_size=batch_size),
        strict=True,
    )
    return collect_kl(divergences(before, after) for before, after in pairs)


def collect_kl(per_token: Iterator[Tensor]) -> TokenKL:
    """Sum the divergences of each prompt.

    `per_token`: yields the divergence at each token (nat), one tensor of shape (tokens,) for each prompt.
    """
    rows = [(float(values.sum()), len(values)) for values in per_token]
    return TokenKL(sums=tuple(total for total, _ in rows), tokens=tuple(count for _, count in rows))


def divergences(base_logits: Tensor, tuned_logits: Tensor) -> Tensor:
    """Return the KL between softmax distributions, place by place, in float64.

    `base_logits`, `tuned_logits`: shape (tokens, vocabulary), of the two models at the same places.

    Examples
    --------
    >>> fair, biased = torch.zeros(1, 2), torch.tensor([[0.0, 1.0]])
    >>> round(float(divergences(fair, biased)), 4)  # log((1 + e) / 2) - 1/2
    0.1201
    """
    if base_logits.shape != tuned_logits.shape:
        what = f"logits of shape {tuple(base_logits.shape)} and {tuple(tuned_logits.shape)} cannot be compared"
        raise DataError(what, "give two models over one vocabulary")
    base = torch.log_softmax(base_logits.double(), dim=-1)
    tuned = torch.log_softmax(tuned_logits.double(), dim=-1)
    values = (base.exp() * (base - tuned)).sum(dim=-1)
    if not bool(torch.isfinite(values).all()):
        raise DataError("a model gives NaN or infinite logits", "it has diverged; use an earlier checkpoint")
    return values


@torch.inference_mode()
def prompt_logits(model: PreTrainedModel, prompts: Prompts, *, batch_size: int = 16) -> Iterator[Tensor]:
    """Yield the logits at every token of every prompt, prompt by prompt.

    Prompts are padded on the right, where attention is causal and padding cannot reach a real token.

    Yields: shape (tokens, vocabulary), views of one batch's output: copy what is to be kept past the next prompt.
    """
    for start in range(0, len(prompts), batch_size):
        batch = [torch.tensor(prompt, dtype=torch.long) for prompt in prompts[start : start + batch_size]]
        lengths = torch.tensor([len(prompt) for prompt in batch])
        inputs = torch.nn.utils.rnn.pad_sequence(batch, batch_first=True)
        mask = (torch.arange(inputs.shape[1]) < lengths[:, None]).long()
        output = model(input_ids=inputs.to(model.device), attention_mask=mask.to(model.device), use_cache=False)
        for row, prompt in zip(output.logits, batch, strict=True):
            yield row[: len(prompt)]
