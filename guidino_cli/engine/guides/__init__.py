"""Analysis of guide maps, their prototypes, and backbone tokens."""
