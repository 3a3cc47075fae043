"""Claims about the pick of a search, each with a probability of error over the whole procedure. Pure."""
