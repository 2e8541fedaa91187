"""Measure speed and memory of backbones and models; count their FLOPs."""
