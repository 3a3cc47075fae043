"""The models that strategies learn from observations: a Gaussian process, a random forest, a ridge regression of
ranks."""
