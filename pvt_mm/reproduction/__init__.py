"""Evaluate published weights and compare with the published numbers."""
