"""The models of strategies: a Gaussian process, a random forest, a ridge regression of ranks. Nothing here is API."""
