"""Inference: sliding windows, ensembles, post-processing rules and speed-ups."""
