"""The weights that rounding acts on, read from a checkpoint."""

from __future__ import annotations

from pathlib import Path

from estheory.errors import ConfigError
from estheory.models.builtin import model_folder
from estheory.models.magnitudes import magnitude_counts
from estheory.models.shapes import tensor_shapes, trainable_shapes
from estheory.rules import Dtype, require_choice
from estheory.simulation.emulator.strata import SampledWeights


def checkpoint_weights(checkpoint: str | Path, dtype: Dtype, trainable: str = "all") -> SampledWeights:
    """Return the magnitudes of a checkpoint's trained weights as a 16-bit format stores them, for the emulator.

    Parameters
    ----------
    checkpoint
        A file, a folder, or the name of a built-in model. Read in pieces; no model is built.
    dtype
        ``bfloat16`` or ``float16``: how the run stores the weights.
    trainable
        ``all``, ``last:K`` or ``regex:PATTERN`` (:func:`estheory.models.shapes.trainable_shapes`).

    Returns
    -------
    SampledWeights
        Every different magnitude (weight) with its count, tensor by tensor.

    Raises
    ------
    ConfigError
        If the format has no rounding here, or ``trainable`` names adapters (in no file before the run) or nothing.
    DataError
        If the checkpoint cannot be read, or holds weights beyond the format's range.

    Examples
    --------
    >>> weights = checkpoint_weights("tiny-lm", "bfloat16")
    >>> int(weights.counts.sum())
    59184
    """
    require_choice("dtype", dtype, ("bfloat16", "float16"))
    if trainable.startswith("lora"):
        raise ConfigError("--weights holds no adapters yet: their weights are unknown", "use --weight-std")
    folder = model_folder(checkpoint)
    chosen = None if trainable == "all" else set(trainable_shapes(tensor_shapes(folder), trainable))
    names, magnitudes, counts = magnitude_counts(folder, dtype, chosen)
    return SampledWeights(names=names, magnitudes=magnitudes, counts=counts)
