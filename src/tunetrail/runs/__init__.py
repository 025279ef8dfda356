"""Recorded runs: read back, done again, laid side by side."""
