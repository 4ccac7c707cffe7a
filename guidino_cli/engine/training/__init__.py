"""The training loop and everything it keeps."""
