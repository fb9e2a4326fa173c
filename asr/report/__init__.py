"""A page about runs, in one file that needs no network: gathered (runs, curves, decodings, examples), then written."""
