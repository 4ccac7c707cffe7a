"""Self-supervised learning on unlabelled images: objectives with their views, masks, networks and losses."""
