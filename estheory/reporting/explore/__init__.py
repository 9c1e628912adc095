"""The what-if page: formulas from the symbolic source, printed as JavaScript, in one HTML file."""
