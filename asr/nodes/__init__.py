"""WHICH (frame, label) nodes of a batch's lattices a loss evaluates the joiner on."""
