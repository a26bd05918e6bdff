"""Config of SWCM: an encoder and how its decoder is made from it (fields: docs/MODEL_DIRECTORY.md)."""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig, PretrainedConfig

from lrengine.layer_kinds import layer_kinds
from lrengine.models.config_io import complete_dict, sub_config
from lrengine.models.encoders import is_bert_type

NORM_STYLES = ("post", "published")
SHARINGS = ("init", "tied", "none")


class SwcmConfig(PretrainedConfig):
    """`encoder`: a BERT-type config (object or dict); the rest describes the decoder. Token ids are of the target side.

    Raises ValueError for a field that is missing, out of range or contradicts another one."""

    model_type = "swcm"
    sub_configs = {"encoder": AutoConfig}
    has_no_defaults_at_init = True
    keys_to_ignore_at_inference = ["past_key_values"]

    def __init__(
        self,
        encoder: PretrainedConfig | dict[str, Any] | None = None,
        *,
        normal_layer_interval: int = 3,
        normal_after_last: bool = True,
        norm_style: str = "post",
        sharing: str = "init",
        tie_word_embeddings: bool = True,
        output_bias: bool = False,
        decoder_layer_norm_eps: float | None = None,
        vocab_size: int | None = None,
        bos_token_id: int | None = 0,
        pad_token_id: int | None = 1,
        eos_token_id: int | list[int] | None = 2,
        decoder_start_token_id: int | None = None,
        use_cache: bool = True,
        **kwargs: Any,
    ) -> None:
        self.encoder = sub_config(encoder, "encoder")
        if not is_bert_type(self.encoder):
            raise ValueError(f"SWCM needs a BERT-type encoder, not '{self.encoder.model_type}'")
        kwargs["is_encoder_decoder"] = True
        super().__init__(**kwargs)
        self.normal_layer_interval = normal_layer_interval
        self.normal_after_last = normal_after_last
        self.norm_style = norm_style
        self.sharing = sharing
        self.tie_word_embeddings = tie_word_embeddings
        self.output_bias = output_bias
        self.decoder_layer_norm_eps = (
            self.encoder.layer_norm_eps if decoder_layer_norm_eps is None else decoder_layer_norm_eps
        )
        self.vocab_size = self.encoder.vocab_size if vocab_size is None else vocab_size
        self.bos_token_id = bos_token_id
        self.pad_token_id = pad_token_id
        self.eos_token_id = eos_token_id
        self.decoder_start_token_id = bos_token_id if decoder_start_token_id is None else decoder_start_token_id
        self.use_cache = use_cache
        self._check()

    def _check(self) -> None:
        if getattr(self.encoder, "position_embedding_type", "absolute") != "absolute":
            raise ValueError("SWCM needs an encoder with absolute positions")
        if self.norm_style not in NORM_STYLES:
            raise ValueError(f"norm_style '{self.norm_style}' is not one of {', '.join(NORM_STYLES)}")
        if self.sharing not in SHARINGS:
            raise ValueError(f"sharing '{self.sharing}' is not one of {', '.join(SHARINGS)}")
        if self.normal_layer_interval < 0:
            raise ValueError(f"normal_layer_interval must be 0 (none) or more, not {self.normal_layer_interval}")
        if self.vocab_size != self.encoder.vocab_size:
            raise ValueError(f"vocab_size {self.vocab_size} differs from the encoder's {self.encoder.vocab_size}")

    def layer_kinds(self) -> list[str]:
        """`custom` and `normal` in the order they are applied: one custom layer for every encoder layer, a normal
        one after every X of them (L = 12, X = 3: 16 layers in the paper; the published checkpoint has none after the
        last custom layer: 15)."""
        layers = self.encoder.num_hidden_layers
        return layer_kinds(layers, self.normal_layer_interval, self.normal_after_last)

    @property
    def position_offset(self) -> int:
        """Row of the position table of the first token: pad + 1 in (XLM-)RoBERTa, 0 in BERT."""
        return 0 if self.encoder.model_type == "bert" else self.encoder.pad_token_id + 1

    @property
    def max_target_positions(self) -> int:
        """Longest target, decoder start included: what the encoder's position table holds."""
        return self.encoder.max_position_embeddings - self.position_offset

    @property
    def hidden_size(self) -> int:
        return self.encoder.hidden_size

    @property
    def num_attention_heads(self) -> int:
        return self.encoder.num_attention_heads

    @property
    def num_hidden_layers(self) -> int:
        """Decoder layers: what transformers sizes its key/value cache by."""
        return len(self.layer_kinds())

    def get_text_config(self, *args: Any, **kwargs: Any) -> SwcmConfig:
        """Itself: transformers would otherwise cut every field that starts with `encoder` out of a copy."""
        return self

    def to_dict(self) -> dict[str, Any]:
        return complete_dict(self)

    def to_diff_dict(self) -> dict[str, Any]:
        return self.to_dict()
