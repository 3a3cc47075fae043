"""Random forests as plain arrays: fitted by scikit-learn, asked here for whole populations and all trees at once."""

from autotune.core.forest.arrays import Features, Forest
from autotune.core.forest.fit import fit_classifier, fit_regressor, from_trees
from autotune.core.forest.similarity import compute_leaf_similarity

__all__ = ["Features", "Forest", "compute_leaf_similarity", "fit_classifier", "fit_regressor", "from_trees"]
