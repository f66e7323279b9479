"""Grad-CAMs of all layers, their cumulative averages, and conditions made of them."""
