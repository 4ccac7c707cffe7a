"""What a guide and its backbone see."""
