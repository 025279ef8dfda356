"""What is wrong with the rows of each split: found, shown, and dropped or repaired."""
