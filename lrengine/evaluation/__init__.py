"""Scores of a model directory on a split: metrics that suit every script, with the engine or PyTorch."""

from lrengine.evaluation.evaluate import Evaluation, evaluate, score
from lrengine.evaluation.predictors import DecodingOptions

__all__ = ["DecodingOptions", "Evaluation", "evaluate", "score"]
