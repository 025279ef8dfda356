"""Tasks: one file each, from rows to the inputs of a model and from its outputs to scores."""
