"""Trained models: find them, load them, predict on tables, export them."""
