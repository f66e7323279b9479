"""Folders of pictures in, files out."""
