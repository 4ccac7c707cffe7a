"""The parts of `guidino visualize-guide`."""
