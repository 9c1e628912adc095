"""Layer and type of module of a tensor, by its name."""

from __future__ import annotations

import re

_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|layer)\.(\d+)\.")


def layer_of(name: str) -> str | None:
    """Return the number of the transformer block that a tensor belongs to.

    Examples
    --------
    >>> layer_of("model.layers.3.self_attn.q_proj.weight")
    '3'
    """
    found = _LAYER.search(name)
    return found[1] if found else None


def block_of(name: str) -> str:
    """Return the transformer block that a tensor's name puts it in.

    Examples
    --------
    >>> block_of("model.layers.3.self_attn.q_proj.weight"), block_of("model.norm.weight")
    ('model.layers.3', 'model.norm.weight')
    """
    found = _LAYER.search(name)
    return name[: found.end(1)] if found else name


def module_of(name: str) -> str:
    """Return the type of module that a tensor belongs to.

    Examples
    --------
    >>> module_of("model.layers.3.self_attn.q_proj.weight"), module_of("model.embed_tokens.weight")
    ('self_attn.q_proj', 'embed_tokens')
    """
    found = _LAYER.search(name)
    inner = name[found.end() :] if found else name.removeprefix("model.").removeprefix("transformer.")
    return inner.removesuffix(".weight")
