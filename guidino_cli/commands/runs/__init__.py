"""One training run or many: how they are started, and what is kept of them."""

NO_PRESET = "nothing to train: add --preset, a NAME (see `guidino presets`) or a file of your own, such as mine.yaml"
