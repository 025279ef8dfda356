"""Recorded runs: read back, run again, compared."""
