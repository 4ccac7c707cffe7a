"""Data sets of images, tiles or volumes with class labels: their layouts, and the pictures of an item."""
