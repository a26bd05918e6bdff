"""The model that training of a SWCM recipe would start from, but with normal layers that are copies of encoder layers
instead of random ones (the paper's ablation; each copies the encoder layer of the custom layer before it):

python recipes/duplicate_normal_layers.py recipes/swcm_zh_kk.yaml runs/duplicated
lrengine train recipes/swcm_zh_kk.yaml --set model.path=runs/duplicated --set model.encoder=null \\
    --set 'model.options={}'

Both attentions are the encoder layer's self-attention, the feed-forward block is its own; the norms go with them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import transformers

from lrengine.models.encoders import encoder_layers
from lrengine.models.swcm_layers import NormalLayer, attention_of, feed_forward_of
from lrengine.training.config import TrainConfig
from lrengine.training.processes import Processes
from lrengine.training.setup import prepare


def duplicate(model: Any) -> None:
    """Overwrites the normal layers of a SWCM model whose norm_style is post."""
    sources = iter(encoder_layers(model.encoder))
    for layer in model.decoder.layers:
        if not isinstance(layer, NormalLayer):
            source = next(sources)
            continue
        for block in (layer.self_attention, layer.cross_attention):
            _copy(block, attention_of(source))
        _copy(layer.ffn, feed_forward_of(source))
        for norm in (layer.norm1, layer.norm2):
            norm.load_state_dict(source.attention.output.LayerNorm.state_dict())
        layer.norm3.load_state_dict(source.output.LayerNorm.state_dict())


def _copy(block: Any, source: Any) -> None:
    for name, module in block.named_children():
        module.load_state_dict(getattr(source, name).state_dict())


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("destination", type=Path)
    args = parser.parse_args(arguments)
    config = TrainConfig.from_yaml(args.recipe).resolved()
    if config.model.options.get("norm_style", "post") != "post":
        raise SystemExit("the recipe's norm_style is published: an encoder's norms have no place in such layers")
    transformers.set_seed(config.run.seed)
    parts = prepare(config, None, None, Processes(config.run.device)).parts
    duplicate(parts.model)
    parts.save(args.destination)


if __name__ == "__main__":
    main()
