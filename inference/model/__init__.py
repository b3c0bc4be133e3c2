"""A checkpoint on disk: fetched, read tensor by tensor, stored as hashed units, turned into ONNX graphs."""
