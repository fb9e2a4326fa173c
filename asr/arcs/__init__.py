"""WHICH arcs leave a (frame, label) node of the lattice, where they lead, and what they weigh."""
