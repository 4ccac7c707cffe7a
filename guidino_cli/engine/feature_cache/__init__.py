"""Cached features of a frozen backbone: in memory and on disk."""
