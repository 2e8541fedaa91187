"""Models as files that need no pvt_mm: torch.export and ONNX."""
