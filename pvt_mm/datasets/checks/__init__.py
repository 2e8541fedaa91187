"""Check data before a run; skip or report bad samples during it."""
