"""What a run directory is and holds: its paths and logs, checkpoints, and the trained model."""
