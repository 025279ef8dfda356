"""Which weights are trained: one file and one YAML a method."""
