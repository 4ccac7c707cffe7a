"""One training run or many: how they are started, and what is kept of them."""
