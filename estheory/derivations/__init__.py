"""The results of :mod:`estheory.theory` derived in sympy: every step checked, every evaluator compared."""
