"""Load a causal language model and its tokenizer: built-in, from a Hugging Face folder, or by hub id."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from estheory.errors import ConfigError, DataError
from estheory.models.builtin import builtin_names, get_builtin, recorded_sha256
from estheory.models.hashing import sha256_of_folder
from estheory.models.headers import tensor_entries
from estheory.models.hub import hub_folder, is_hub_id
from estheory.models.weight_files import TORCH_SUFFIXES, weight_files


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model ready for decoding and what identifies it.

    Attributes
    ----------
    model
        In eval mode, on its device.
    tokenizer
        With a pad token and an end token; pads on the left.
    name
        What the user asked for.
    folder
        The folder it was read from.
    sha256
        Hash of the folder's safetensors files (`estheory.models.builtin.sha256_of_folder`).
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    folder: Path
    sha256: str


def load_model(spec: str, *, device: str = "cpu", dtype: torch.dtype = torch.float32) -> LoadedModel:
    """Load a causal language model for inference or fine-tuning without dropout.

    `spec`: a built-in name, a Hugging Face folder, or a hub id (``owner/name``; only then is the network used).

    Examples
    --------
    >>> loaded = load_model("tiny-lm")
    >>> loaded.name, sum(p.numel() for p in loaded.model.parameters())
    ('tiny-lm', 59184)
    """
    folder = resolve_model(spec)
    if any(file.suffix in TORCH_SUFFIXES for file in weight_files(folder)):
        raise DataError(f"{folder} holds its weights as pickles", "save the model as safetensors to run it")
    tensor_entries(folder)  # missing and truncated files
    sha256 = sha256_of_folder(folder)
    if recorded_sha256(folder) not in (None, sha256):
        raise DataError(
            f"the weights in {folder} are damaged: their SHA-256 changed",
            "delete the folder and get the model again",
        )
    tokenizer = _load_tokenizer(folder)
    model = load_weights(folder, dtype)
    try:
        torch.nn.Module.to(model, device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"device {device!r} cannot be used ({_first_line(error)})", "use cpu, or a device that torch sees"
        ) from error
    return LoadedModel(model=model.train(False), tokenizer=tokenizer, name=spec, folder=folder, sha256=sha256)


def resolve_model(spec: str) -> Path:
    """Return the folder a model specification stands for, downloading it if it is not there yet."""
    if spec in builtin_names():
        return get_builtin(spec)
    folder = Path(spec).expanduser()
    if is_hub_id(spec):
        return hub_folder(spec, download=True)
    if not folder.exists():
        raise ConfigError(
            f"unknown model {spec!r}",
            f"give one of {', '.join(builtin_names())}, a model folder, or a hub id owner/name",
        )
    if not (folder / "config.json").is_file():
        raise DataError(
            f"{folder} is no model folder: it has no config.json", "give a folder written by save_pretrained"
        )
    return folder


def load_weights(folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    """Load a causal language model from its folder; DataError where its weights do not fit its config.json."""
    try:
        with _quiet():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=dtype,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
            )
    except Exception as error:  # what a damaged config.json makes transformers raise has no common base
        raise DataError(
            f"{folder} holds no causal language model ({_first_line(error)})", "give a folder of one"
        ) from error
    model: PreTrainedModel
    model, report = loaded
    wrong = sorted(report["missing_keys"]) + sorted(str(row[0]) for row in report["mismatched_keys"])
    if wrong:
        raise DataError(
            f"the weights in {folder} do not fit its config.json: {wrong[0]} is missing or of another shape",
            "give a folder whose weights and configuration belong together",
        )
    return model


def _load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    try:
        with _quiet():
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # as above
        raise DataError(
            f"{folder} has no usable tokenizer ({_first_line(error)})", "save the model's tokenizer there"
        ) from error
    for kind in ("pad_token", "eos_token"):
        if getattr(tokenizer, kind) is None:
            raise ConfigError(f"the tokenizer in {folder} has no {kind}", f"set {kind} in its tokenizer_config.json")
    tokenizer.padding_side = "left"
    return tokenizer


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' progress bars and load reports off stderr: what matters in them is raised."""
    log: Any = logging
    shown, verbosity = log.is_progress_bar_enabled(), log.get_verbosity()
    log.disable_progress_bar()
    log.set_verbosity_error()
    try:
        yield
    finally:
        log.set_verbosity(verbosity)
        if shown:
            log.enable_progress_bar()


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
