"""What a model costs, counted without running it."""
