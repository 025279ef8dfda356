"""Tracking: what runs write to MLflow, and how it is read back."""
