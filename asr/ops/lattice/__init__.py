"""Sums over the paths of a transducer lattice."""
