"""What 16-bit storage does to a walk."""
