"""The loop of pretraining and everything it keeps."""
