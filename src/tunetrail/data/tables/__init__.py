"""Tables in files: one reader for training and for predict, and writers for the answers."""
