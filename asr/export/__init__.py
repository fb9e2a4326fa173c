"""Models in the forms that other runtimes run: sherpa-onnx's ONNX files, and programs of torch.export."""
