"""One quadratic landscape: a step, many steps, where they end."""
