"""Volumes: reading, canonical axes, storing, intensities and writing."""
