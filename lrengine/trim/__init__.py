"""Smaller vocabularies for the same weights, and new pieces for scripts that a tokenizer barely knows."""

from lrengine.trim.run import TrimOptions, TrimReport, trim

__all__ = ["TrimOptions", "TrimReport", "trim"]
