"""Encoder, predictor, joiner, and the container that holds them. Models know no loss."""
