"""Corpora in the forms that they lie in, one file a form: each becomes rows, and rows become cuts."""
