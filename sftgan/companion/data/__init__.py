"""Data sets of the study."""
