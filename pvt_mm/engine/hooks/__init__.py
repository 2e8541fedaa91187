"""What a run calls at its turns: hooks, and the batches that they count."""
