"""Draw data, training curves, feature maps and results."""
