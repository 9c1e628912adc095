"""A tiny untrained model that reads text, and a file of problems for it."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from estheory.training.process import quiet


def save_text_model(folder: Path, *, context: int = 512) -> Path:
    """Write a byte-level model of 16 dimensions, which is no character-level one since it knows a word."""
    words = ["<pad>", "<eos>", *sorted(pre_tokenizers.ByteLevel.alphabet()), "no"]
    bytewise = Tokenizer(models.BPE(vocab={word: k for k, word in enumerate(words)}, merges=[("n", "o")]))
    bytewise.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    bytewise.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    PreTrainedTokenizerFast(tokenizer_object=bytewise, pad_token="<pad>", eos_token="<eos>").save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(
        vocab_size=len(words),
        max_position_embeddings=context,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
        **sizes,
    )
    with quiet():
        LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def write_choices(file: Path, count: int = 60, *, first: int = 0) -> None:
    """Write multiple-choice problems."""
    rows = [
        {"question": f"Is {k} odd?", "options": [f"{k} is", f"{k} is not"], "answer": 1 - k % 2}
        for k in range(first, first + count)
    ]
    file.parent.mkdir(exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
