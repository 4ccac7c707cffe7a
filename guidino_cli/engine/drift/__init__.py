"""How far new images are from those a run was trained on: token statistics, distances, and a two-sample test."""
