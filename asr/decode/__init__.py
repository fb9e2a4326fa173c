"""Search: from encoder output to hypotheses."""
