"""The effects: evaluators that compile and time, journals, progress, and the loop that drives a search."""
