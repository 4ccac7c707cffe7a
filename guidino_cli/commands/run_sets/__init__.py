"""Several runs in one folder: over seeds or folds."""
