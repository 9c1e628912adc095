"""An audit of every row of `predict` on configurations drawn at random: `make audit`."""
