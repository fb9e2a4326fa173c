"""Data: everything between recordings with transcripts and batches for training."""
