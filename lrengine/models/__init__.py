"""The models in PyTorch, Hugging Face style; importing this registers them with the Auto classes."""

from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoModelForSequenceClassification

from lrengine.models.classifier import LayerFusionForSequenceClassification
from lrengine.models.fusion import LayerFusionForCausalLM
from lrengine.models.fusion_config import LayerFusionClassifierConfig, LayerFusionConfig
from lrengine.models.swcm import SwcmForConditionalGeneration
from lrengine.models.swcm_config import SwcmConfig

for _config in (SwcmConfig, LayerFusionConfig, LayerFusionClassifierConfig):
    AutoConfig.register(_config.model_type, _config)
AutoModelForSeq2SeqLM.register(SwcmConfig, SwcmForConditionalGeneration)
AutoModelForCausalLM.register(LayerFusionConfig, LayerFusionForCausalLM)
AutoModelForSequenceClassification.register(LayerFusionClassifierConfig, LayerFusionForSequenceClassification)

__all__ = [
    "LayerFusionClassifierConfig",
    "LayerFusionConfig",
    "LayerFusionForCausalLM",
    "LayerFusionForSequenceClassification",
    "SwcmConfig",
    "SwcmForConditionalGeneration",
]
