"""What passes ask of an ONNX graph and change in it: layers, weights, chains, inner tensors."""
