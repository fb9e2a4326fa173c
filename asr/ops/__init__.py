"""How losses are computed: tensors in, tensors out. Imports torch and nothing else of the project."""
