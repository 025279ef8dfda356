"""Training: Trainer with its callbacks and checkpoints, and the rows as it reads them."""
