"""ONNX graphs of layer ranges, built node by node; weights stay in their unit files."""
