"""Pretrained weights: what there is, bring a file in, prove that it is right, get it from the hub."""
