"""Instances from affinities and back: nearest-neighbour affinities, fragments, and their agglomeration."""
