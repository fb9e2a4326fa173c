"""Scoring: error rates of hypotheses against references, and readable reports of the errors."""
