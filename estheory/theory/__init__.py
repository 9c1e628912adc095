"""Closed forms of evolution strategies: one module a topic, numpy only."""
