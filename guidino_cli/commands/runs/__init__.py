"""Training runs: child processes, messages, figures and results."""

NO_PRESET = "nothing to train: add --preset with a name (see `guidino presets`) or a YAML file of your own"
