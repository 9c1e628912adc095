"""Measurements on checkpoints and models: displacement, KL, Fisher probes, reliability, interpolation.

``displacement``, ``fisher`` and ``reliability`` import no torch.
"""
