"""Triton kernels with plain PyTorch references; they arrive with the CUDA backend."""
