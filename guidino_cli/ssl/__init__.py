"""Learning from images without labels: objectives, and the views, masks, heads and losses they are made of."""
