"""Counting magnitudes of a checkpoint."""

import numpy as np
import pytest

from estheory.errors import DataError
from estheory.floats import FORMATS, rounded
from estheory.models.builtin import get_builtin
from estheory.models.checkpoints import open_checkpoint
from estheory.models.magnitudes import magnitude_counts


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_counts_are_those_of_the_stored_weights(dtype):
    folder = get_builtin("tiny-lm")
    checkpoint = open_checkpoint(folder)
    names, magnitudes, counts = magnitude_counts(folder, dtype)
    assert names == tuple(checkpoint.tensors)
    for name, row in list(zip(names, counts, strict=True))[:3]:
        stored = np.abs(rounded(checkpoint.read(name), FORMATS[dtype]))
        values, expected = np.unique(stored, return_counts=True)
        assert np.array_equal(magnitudes[row > 0], values)
        assert np.array_equal(row[row > 0], expected)
    assert counts.sum() == checkpoint.dim


def test_some_tensors_only():
    folder = get_builtin("tiny-lm")
    names, _, counts = magnitude_counts(folder, "bfloat16", {"model.norm.weight"})
    assert names == ("model.norm.weight",)
    assert counts.sum() == 48
    with pytest.raises(DataError, match="nothing"):
        magnitude_counts(folder, "bfloat16", {"nothing"})
