"""Latency benchmarks that compare like with like: every contestant runs in a process of its own and they take turns."""
