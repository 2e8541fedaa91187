"""How fast and how large the backbones are, beside everybody else's."""
