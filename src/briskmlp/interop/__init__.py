"""Work for other libraries: `briskmlp.interop.torch` trains PyTorch modules in place."""
