"""Training: the loop, its optimization step, data, loss, validation, logging and checkpoint."""
