"""LoRA adapters through peft, with an initial value that a seed determines."""

from __future__ import annotations

import math

import numpy as np
import torch
from transformers import PreTrainedModel

from estheory.errors import MissingDependencyError
from estheory.models.shapes import trainable_shapes

_STREAM = 0x6C6F7261  # keeps the adapters' random numbers apart from other uses of the same seed


def add_adapters(model: PreTrainedModel, trainable: str, *, seed: int) -> None:
    """Put LoRA adapters on every attention and MLP projection; the model computes what it did before.

    W becomes W + B A with A uniform in +-1/sqrt(n), n the projection's inputs, and B = 0 (the scale alpha / R is 1).
    """
    shapes = trainable_shapes({name: tuple(p.shape) for name, p in model.named_parameters()}, trainable)
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise MissingDependencyError(f"LoRA adapters need peft ({error})", "install the package peft") from error
    rank = int(trainable.partition(":")[2])
    targets = [name.removesuffix(".lora_A.weight") for name in shapes if name.endswith(".lora_A.weight")]
    config = LoraConfig(r=rank, lora_alpha=rank, lora_dropout=0.0, target_modules=targets)
    with torch.random.fork_rng():
        model.add_adapter(config)
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_STREAM,)))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_A." in name:
                values = rng.uniform(-1.0, 1.0, tuple(parameter.shape)) / math.sqrt(parameter.shape[1])
                parameter.data = torch.from_numpy(values).to(model.dtype).to(parameter.device)
            elif ".lora_B." in name:
                parameter.data = torch.zeros_like(parameter, dtype=model.dtype)
    model.train(False)
