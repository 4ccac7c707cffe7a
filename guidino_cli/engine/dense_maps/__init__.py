"""The dense maps of a frozen backbone, computed once and kept."""
