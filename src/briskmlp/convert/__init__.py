"""Networks in other formats and back: `briskmlp.convert.torch`, `briskmlp.convert.onnx`; import them by these names."""
