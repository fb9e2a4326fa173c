"""Alignments: from times of words to frames of labels."""
