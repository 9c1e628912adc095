"""Models of the Hugging Face hub by their id ``owner/name``, through the hub's own library and its cache.

``HF_HUB_OFFLINE=1``, the library's switch, keeps it from the network: a model is then found only in the cache.
Imports no torch.
"""

from __future__ import annotations

import re
from pathlib import Path

from estheory.errors import DataError, MissingDependencyError
from estheory.watching import is_watched

_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)
_FILES = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]


def is_hub_id(name: str) -> bool:
    """Whether a name is an id ``owner/name`` and no path: nothing is called so here, nor is there such a folder."""
    path = Path(name).expanduser()
    return bool(_ID.fullmatch(name)) and not path.exists() and not path.parent.is_dir()


def hub_folder(name: str, *, download: bool) -> Path:
    """Return the folder of a model in the hub's cache.

    `download`: get what the cache lacks, unless the library is offline; False never uses the network.
    """
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError
        from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
    except ImportError as error:
        raise MissingDependencyError(f"hub ids need huggingface_hub ({error})", "install huggingface_hub") from error
    shown = not are_progress_bars_disabled() and not is_watched()  # a command draws the library's own bars
    if shown:
        disable_progress_bars()
    try:
        return Path(snapshot_download(name, allow_patterns=_FILES, local_files_only=not download))
    except (HfHubHTTPError, OSError, ValueError) as error:
        why = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise DataError(
            f"the model {name} is neither a local folder nor obtainable from the hub ({why})",
            f"check the path or id; with the network, get it by: hf download {name}",
        ) from error
    finally:
        if shown:
            enable_progress_bars()
