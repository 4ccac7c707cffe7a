"""What is kept of a training run, and how it is used again."""
