"""Local evaluate modules, loaded by path."""
