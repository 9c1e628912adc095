"""Closed forms of evolution strategies: one module per topic, numpy only."""
