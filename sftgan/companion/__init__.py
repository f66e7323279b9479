"""What the book computes."""
