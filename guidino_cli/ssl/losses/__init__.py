"""The terms of self-supervised objectives, an equation each."""
