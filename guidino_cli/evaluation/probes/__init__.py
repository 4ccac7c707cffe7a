"""Probes of frozen features: samples, parts, solvers, scores and their reports."""
