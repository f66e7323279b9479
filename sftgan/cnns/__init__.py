"""CNNs: the paper's architectures, their normalisation and their weights."""
