"""Property tests of evolution strategies, for everybody's code: checks of invariants, and strategies of hypothesis."""
