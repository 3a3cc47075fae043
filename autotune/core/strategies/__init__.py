"""The search strategies, one file an algorithm, and the registry that names them. `autotune.strategies` has the public
types."""
