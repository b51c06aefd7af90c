"""One algorithm a file: each turns an ONNX file into another one."""
