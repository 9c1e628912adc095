"""Theory held against files: checkpoints measured and run directories read, joined with what is predicted of them."""
