"""The parts of `guidino evaluate`."""
