"""Export models with torch.export and to ONNX."""
