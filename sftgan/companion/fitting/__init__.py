"""Classifiers and the captioner, fitted."""
