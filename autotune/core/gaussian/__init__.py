"""Gaussian processes in plain numpy: a Matérn 5/2 kernel with a length scale for each feature."""
