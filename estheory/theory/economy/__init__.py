"""What a run earns and pays: rewards of members on prompts in, gain, cost and what comes next out."""
