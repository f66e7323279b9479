"""SFT generators: networks, training, examples, files."""
