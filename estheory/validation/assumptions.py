"""What the laws of recorded runs assume, in the words that verdicts show, and the emulator's limits."""

from estheory.runs.view import BY_COEFFICIENTS

FLAT = "all but a vanishing share of the coordinates are flat"
CONDITIONED = BY_COEFFICIENTS
SHARED = "tensors of equal element count share their noise"
DENSE = "dense, independent gradient noise"

FEWEST = 50
"""Effective degrees of freedom from which the chi law of a rounded norm, whose moments were matched, is used."""
STUDENT = 1.24
"""Student's over the normal two-sided 0.001 quantile at 15 degrees of freedom: the emulator's error has 16 groups."""
