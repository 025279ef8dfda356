"""Evaluation: the verdict on the fit, scores of the test split, tests of differences."""
