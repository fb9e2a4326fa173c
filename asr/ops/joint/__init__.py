"""Evaluating the joiner on nodes."""
