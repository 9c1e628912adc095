"""What is probably wrong with an estimator or a run, by name: one list of candidates, for code and for verdicts."""
