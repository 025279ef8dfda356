"""What a run is made from: code, packages, machine, data, weights."""
