"""The exact sequence of rounded operations of a 16-bit run, on a sample of its weights."""
