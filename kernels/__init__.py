"""Triton kernels for training and running the models on a GPU, each beside the plain PyTorch that it equals.

The public functions take tensors of any device: dispatch.py says when a kernel runs and when the reference does. The
kernels behind them are `torch.library` custom ops (namespace `lrengine`), so torch.compile and torch.export see one
opaque node with known shapes, and autograd knows their gradients.
"""
