"""Monte Carlo of evolution strategies on quadratic landscapes: direct, and reduced (exact in law at any dimension)."""
