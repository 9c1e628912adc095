"""Small random Llamas and their exact Fisher factor."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from estheory.models.parameters import FlatParameters

MakeLlama = Callable[..., LlamaForCausalLM]
PROMPTS = ((1, 4, 2, 9), (3, 3, 7), (10, 0, 5, 6, 8, 2), (7, 1))


@pytest.fixture
def prompts() -> tuple[tuple[int, ...], ...]:
    return PROMPTS


@pytest.fixture
def make_llama() -> MakeLlama:
    """A random Llama of about 800 parameters whose outputs are far from uniform."""

    def make(seed: int = 0, tied: bool = True) -> LlamaForCausalLM:
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=11,
            hidden_size=8,
            intermediate_size=12,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=32,
            tie_word_embeddings=tied,
            initializer_range=0.4,
        )
        return LlamaForCausalLM(config).eval()

    return make


@pytest.fixture
def fisher_factor() -> Callable[[LlamaForCausalLM, FlatParameters, Sequence[Sequence[int]]], Tensor]:
    """A with A'A = F exactly, by autograd: rows sqrt(p_v / tokens) grad log p_v, shape (tokens * V, dim)."""

    def factor(model: LlamaForCausalLM, parameters: FlatParameters, prompts: Sequence[Sequence[int]]) -> Tensor:
        tokens = sum(len(prompt) for prompt in prompts)
        weights = [dict(model.named_parameters())[name] for name in parameters.names]
        rows = []
        for prompt in prompts:
            logp = torch.log_softmax(model(input_ids=torch.tensor([prompt])).logits[0].double(), dim=-1)
            for value in logp.flatten():
                gradient = torch.autograd.grad(value, weights, retain_graph=True)
                flat = torch.cat([piece.flatten() for piece in gradient]).double()
                rows.append((value.detach().exp() / tokens).sqrt() * flat)
        return torch.stack(rows)

    return factor
