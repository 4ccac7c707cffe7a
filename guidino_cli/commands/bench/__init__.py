"""`guidino bench`: the recipe, its cells, how each kind of cell is computed, and the table of all."""
