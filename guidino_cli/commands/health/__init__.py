"""The parts of `guidino doctor`."""
