"""Pictures of what goes in, what happens inside, and what comes out."""
