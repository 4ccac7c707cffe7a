"""Values of mask files, the rule that gives them meaning, and its application."""
