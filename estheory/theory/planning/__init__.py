"""The inverse problem: which sigma, alpha, N and T meet a budget."""
