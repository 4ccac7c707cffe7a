"""Vectors of images, tiles and slices from a frozen backbone, written once for probes."""
