"""End-to-end speech recognition with neural transducers, without memory bottlenecks."""

__version__ = "0.1.0"
