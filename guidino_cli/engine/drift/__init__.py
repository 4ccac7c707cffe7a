"""Drift of new images from a run's training images: token statistics, distances, and a two-sample test."""
