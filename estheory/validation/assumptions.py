"""What the laws of recorded runs assume, in the words that verdicts show, and the emulator's limits."""

FLAT = "all but a vanishing share of the coordinates are flat"
CONDITIONED = "conditioned on the logged coefficients: v = (alpha^2/N^2) sum z^2"
SHARED = "tensors of equal element count share their noise"
DENSE = "dense, independent gradient noise"

FEWEST = 50
"""Effective degrees of freedom from which the chi law of a rounded norm, whose moments were matched, is used."""
STUDENT = 1.24
"""Student's over the normal two-sided 0.001 quantile at 15 degrees of freedom: the emulator's error has 16 groups."""
