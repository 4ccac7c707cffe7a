"""Runs over seeds or folds: which, what they came to, and what may be done again."""
