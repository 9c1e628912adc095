"""Fine-tuning runs of causal language models by Evolution Strategies and by GRPO."""
