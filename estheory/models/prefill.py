"""Batches of prompts and their first pass through a model, which fills the KV cache.

Batches are padded on the left; padded positions are masked and position ids count real tokens only. What all rows of a
batch begin with (worked examples, filler) passes the model once, not once a row.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

WORTH_SHARING = 256
"""Tokens that a second forward pass must save; it costs about as much as so many tokens of tiny-lm on a CPU."""


@dataclass(frozen=True, kw_only=True)
class EncodedPrompts:
    """Left-padded token ids of a batch of texts.

    Attributes
    ----------
    ids
        Token ids, shape [n, length].
    mask
        1 at real tokens, 0 at padding, shape [n, length]; None if no row is padded.
    """

    ids: Tensor
    mask: Tensor | None


def left_padded(rows: list[list[int]], tokenizer: PreTrainedTokenizerBase, device: torch.device) -> EncodedPrompts:
    """Make a batch of token ids, padded on the left.

    `rows`: token ids of each text, n of them.
    """
    length = max(map(len, rows))
    ids = torch.tensor([[tokenizer.pad_token_id] * (length - len(row)) + row for row in rows], device=device)
    if all(len(row) == length for row in rows):
        return EncodedPrompts(ids=ids, mask=None)
    lengths = torch.tensor([len(row) for row in rows], device=device)
    mask = (torch.arange(length, device=device) >= length - lengths[:, None]).long()
    return EncodedPrompts(ids=ids, mask=mask)


def token_positions(encoded: EncodedPrompts) -> Tensor:
    """Return the position of each token in its own text.

    Result: shape (n, length), from 0; 0 at padding. One row for all, shape (1, length), where none is padded.
    """
    if encoded.mask is None:
        return torch.arange(encoded.ids.shape[1], device=encoded.ids.device)[None, :]
    return (encoded.mask.cumsum(-1) - 1).clamp(min=0)


def shared_tokens(model: PreTrainedModel, encoded: EncodedPrompts, spare: int = 1) -> int:
    """Return the number of tokens that all rows begin with, where passing them once pays.

    `model`: models with attention other than full causal attention share nothing.
    `spare`: tokens at the end of each row that are never shared, at least 1.
    """
    if getattr(model.config, "sliding_window", None) or set(getattr(model.config, "layer_types", None) or ()) - {
        "full_attention"
    }:
        return 0
    length = encoded.ids.shape[1]
    starts = torch.zeros_like(encoded.ids[:, :1])
    if encoded.mask is not None:
        starts = length - encoded.mask.sum(-1, keepdim=True)
    columns = torch.arange(max(0, length - int(starts.max()) - spare), device=encoded.ids.device)
    heads = encoded.ids.gather(1, starts + columns)
    shared = int((heads == heads[:1]).all(0).long().cumprod(0).sum())
    return shared if shared * (len(encoded.ids) - 1) >= WORTH_SHARING else 0


def prefill(
    model: PreTrainedModel, encoded: EncodedPrompts, shared: int, keep: int
) -> tuple[Tensor, DynamicCache, Tensor | None]:
    """Pass a batch through the model, what its rows share once.

    `shared`: tokens that all rows begin with and that pass once (`shared_tokens`).
    `keep`: number of tokens at the end of each row whose logits are wanted.
    Result: the last `keep` logits of each row; the cache; and the mask of the cache's columns, in which the shared
    tokens come first and what pads a row stands between them and its own tokens.
    """
    cache = DynamicCache(config=model.config)
    mask, positions = encoded.mask, token_positions(encoded)
    if shared:
        model(
            input_ids=encoded.ids[:1, -int(positions[0, -1]) - 1 :][:, :shared],
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        cache.batch_repeat_interleave(len(encoded.ids))
        positions = positions[:, shared:]
        if mask is not None:
            own = torch.arange(shared, mask.shape[1], device=mask.device) >= shared + (mask == 0).sum(-1, keepdim=True)
            mask = torch.cat([torch.ones_like(mask[:, :shared]), own.long()], dim=1)
    logits = model(
        input_ids=encoded.ids[:, shared:],
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=keep,
    ).logits
    return logits, cache, mask
