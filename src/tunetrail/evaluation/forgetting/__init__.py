"""Catastrophic forgetting: what a model knew before it was tuned, and knows no more."""
