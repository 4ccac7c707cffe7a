"""The parts of `guidino predict`."""
