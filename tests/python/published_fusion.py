"""LangBridge and the published layer-fusion code, straight from MODELS.md (B) and their checkpoints' names: oracles.

Both are run one row at a time: LangBridge's own code is right only there, and packing makes a batch equal to it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import softmax
from transformers import PreTrainedModel


class LinearAlignment(nn.Module):
    def __init__(self, width: int, llm_width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, llm_width)
        self.enc_eos = nn.Parameter(torch.empty(llm_width))

    def forward(self, states: Tensor) -> Tensor:
        return torch.cat((self.linear(states), self.enc_eos.expand(1, 1, -1)), dim=1)


class FfnAlignment(LinearAlignment):
    def __init__(self, width: int, llm_width: int) -> None:
        super().__init__(width, llm_width)
        del self.linear
        self.ffn = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, llm_width))

    def forward(self, states: Tensor) -> Tensor:
        return torch.cat((self.ffn(states), self.enc_eos.expand(1, 1, -1)), dim=1)


class ResamplerAttention(nn.Module):
    def __init__(self, width: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.heads, self.head_dim = heads, head_dim
        self.norm_media, self.norm_latents = nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, heads * head_dim, bias=False) for _ in range(3))
        self.to_out = nn.Linear(heads * head_dim, width, bias=False)

    def forward(self, media: Tensor, latents: Tensor) -> Tensor:
        media, latents = self.norm_media(media), self.norm_latents(latents)
        both = torch.cat((media, latents), dim=1)
        heads = []
        for head in range(self.heads):
            rows = slice(head * self.head_dim, (head + 1) * self.head_dim)
            q, k, v = self.to_q(latents)[..., rows], self.to_k(both)[..., rows], self.to_v(both)[..., rows]
            heads.append(softmax(q @ k.transpose(1, 2) * self.head_dim**-0.5, dim=-1) @ v)
        return self.to_out(torch.cat(heads, dim=-1))


class LatentAlignment(nn.Module):
    """The Perceiver resampler; its last norm runs over the end vector too."""

    def __init__(
        self, width: int, llm_width: int, latents: int, depth: int, heads: int = 2, head_dim: int = 64
    ) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.empty(latents, width))
        self.enc_eos = nn.Parameter(torch.empty(llm_width))
        self.layers = nn.ModuleList(
            nn.ModuleList(
                [
                    ResamplerAttention(width, heads=2, head_dim=64),
                    nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)),
                ]
            )
            for _ in range(depth)
        )
        self.out_proj = nn.Linear(width, llm_width, bias=False)
        self.norm = nn.LayerNorm(llm_width)

    def forward(self, states: Tensor) -> Tensor:
        x = self.latents[None]
        for attention, ffn in self.layers:
            x = x + attention(states, x)
            x = x + ffn(x)
        return self.norm(torch.cat((self.out_proj(x), self.enc_eos.expand(1, 1, -1)), dim=1))


class LangBridgeBody(nn.Module):
    def __init__(self, encoder: PreTrainedModel, llm: PreTrainedModel, alignment: nn.Module) -> None:
        super().__init__()
        self.enc, self.alignment = encoder, alignment
        self.lm, self.lm_head, self.embeddings = llm.model, llm.lm_head, llm.get_input_embeddings()


class LangBridge(nn.Module):
    """[emb(BOS)] [aligned tokens, enc_eos] [rest], one row."""

    def __init__(self, encoder: PreTrainedModel, llm: PreTrainedModel, alignment: nn.Module) -> None:
        super().__init__()
        self.lb = LangBridgeBody(encoder, llm, randomise(alignment))

    def forward(self, source: list[int], rest: list[int], bos: int) -> Tensor:
        """Logits [1 + len(rest), V]: after the end vector and after each token of `rest`."""
        body = self.lb
        states = body.enc(input_ids=torch.tensor([source])).last_hidden_state
        embedded = body.embeddings(torch.tensor([[bos, *rest]]))
        inputs = torch.cat((embedded[:, :1], body.alignment(states), embedded[:, 1:]), dim=1)
        hidden = body.lm(inputs_embeds=inputs, use_cache=False).last_hidden_state
        return body.lm_head(hidden[0, -1 - len(rest) :])


class LayerWeights(nn.Module):
    """The transformer mixer in its plain form."""

    def __init__(self, layers: int, width: int, inner: int) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(width, nhead=1, dim_feedforward=inner, batch_first=True)
        self.transformerEncoder = nn.TransformerEncoder(layer, num_layers=1, enable_nested_tensor=False)
        self.layer_pos_emb = nn.Parameter(torch.empty(layers, width))
        self.cls = nn.Parameter(torch.empty(1, 1, width))
        self.layer_weights = nn.Linear(width, layers)

    def forward(self, states: Tensor) -> Tensor:
        """[S, L, D] -> [S, L]"""
        x = torch.cat((self.cls.expand(len(states), -1, -1), states + self.layer_pos_emb), dim=1)
        return softmax(self.layer_weights(self.transformerEncoder(x)[:, 0]), dim=-1)


class MixedEncoder(nn.Module):
    def __init__(self, encoder: PreTrainedModel, mixer: str) -> None:
        super().__init__()
        self.embedding_model_base = encoder
        layers, width = encoder.config.num_hidden_layers, encoder.config.hidden_size
        self.mixer = mixer
        if mixer == "global":
            self.layer_weights_lb = nn.Parameter(torch.linspace(-1e-3, 2e-3, layers))
            self.temp = nn.Parameter(torch.tensor(7e-3))
        elif mixer == "transformer":
            self.layer_weights = randomise(LayerWeights(layers, width, 88))

    def forward(self, source: list[int]) -> Tensor:
        output = self.embedding_model_base(input_ids=torch.tensor([source]), output_hidden_states=True)
        states = torch.stack([*output.hidden_states[1:-1], output.last_hidden_state], dim=2)[0]  # [S, L, D]
        if self.mixer == "last":
            return states[:, -1]
        if self.mixer == "global":
            weights = softmax((100.0 + 1e5 * self.temp) * self.layer_weights_lb, dim=0).expand(len(states), -1)
        else:
            weights = self.layer_weights(states)
        return (weights[..., None] * states).sum(dim=1)


class Mapper(nn.Module):
    """fc: one layer; fc1, fc2 or linear1, linear2: two with ReLU between."""

    def __init__(self, names: tuple[str, ...], widths: tuple[int, ...]) -> None:
        super().__init__()
        self.names = names
        for name, rows, columns in zip(names, widths[1:], widths, strict=False):
            setattr(self, name, nn.Linear(columns, rows))

    def forward(self, states: Tensor) -> Tensor:
        states = getattr(self, self.names[0])(states)
        return states if len(self.names) == 1 else getattr(self, self.names[1])(states.relu())


class Mapping(nn.Module):
    def __init__(self, mlp: Mapper, llm_width: int) -> None:
        super().__init__()
        self.mlp = mlp
        self.end_boundary = nn.Parameter(torch.empty(1, 1, llm_width))


class PublishedFusion(nn.Module):
    """[emb(BOS)] [mapped tokens] [end boundary] [rest], one row."""

    def __init__(self, encoder: PreTrainedModel, llm: PreTrainedModel, mixer: str, mapper: tuple[str, ...]) -> None:
        super().__init__()
        width, llm_width = encoder.config.hidden_size, llm.config.hidden_size
        inner = {"fc1": (width,), "linear1": (2 * width,)}.get(mapper[0], ())
        self.encoder_mt = MixedEncoder(encoder, mixer)
        self.model_llm, self.llm_embedding_layer = llm, llm.get_input_embeddings()
        self.mapping = randomise(Mapping(Mapper(mapper, (width, *inner, llm_width)), llm_width))

    def forward(self, source: list[int], rest: list[int], bos: int) -> Tensor:
        """Logits [1 + len(rest), V]."""
        embedded = self.llm_embedding_layer(torch.tensor([[bos, *rest]]))
        mapped = self.mapping.mlp(self.encoder_mt(source))[None]
        inputs = torch.cat((embedded[:, :1], mapped, self.mapping.end_boundary, embedded[:, 1:]), dim=1)
        return self.model_llm(inputs_embeds=inputs, use_cache=False).logits[0, -1 - len(rest) :]


def randomise(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():  # biases and norms too: none may be left out by chance
        nn.init.normal_(parameter, std=0.3)
    return module
