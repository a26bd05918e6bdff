"""The models in PyTorch, Hugging Face style; importing this registers them with the Auto classes."""

from transformers import AutoConfig, AutoModelForSeq2SeqLM

from lrengine.models.swcm import SwcmForConditionalGeneration
from lrengine.models.swcm_config import SwcmConfig

AutoConfig.register(SwcmConfig.model_type, SwcmConfig)
AutoModelForSeq2SeqLM.register(SwcmConfig, SwcmForConditionalGeneration)

__all__ = ["SwcmConfig", "SwcmForConditionalGeneration"]
