"""Masks as files: which values they hold, what those mean, and class indices in their place."""
