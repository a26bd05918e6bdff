"""Turns published checkpoints into model directories. It reads local files alone, never a network."""
