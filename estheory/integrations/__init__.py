"""estheory inside other people's training: import what you need from its modules."""
