"""The models that strategies learn: a Gaussian process, a random forest, and a kernel ridge regression of ranks."""
