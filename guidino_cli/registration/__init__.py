"""Deformable registration of two images or volumes: features, ConvexAdam, displacement fields and their scores."""
