"""Pretraining: the loop, its student, data, history and checkpoint."""
