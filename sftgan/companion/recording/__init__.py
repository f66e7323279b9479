"""Runs of the notebooks and the record of what they found."""
