"""Run folders: settings, weights, loading and merging."""
