"""Parts of `guidino predict`: input and output files, batches, and the log."""
