"""Training: the loop, its state on disk, and the run directory."""
