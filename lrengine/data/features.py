"""One example to ids, for each model type. All are pure functions of (example, rng), so that any process can make
entry k of the plan and gets the same one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from lrengine.data.denoising import NoiseConfig, mask_spans, permute_sentences
from lrengine.data.examples import Example
from lrengine.data.template import nearest
from lrengine.data.tokenization import TextEncoder
from lrengine.errors import DataError

Features = dict[str, Any]  # "input_ids": list[int], "labels": list[int] or int, "prompt_ids": list[int]


class MakeFeatures(Protocol):
    def __call__(self, example: Example, rng: np.random.Generator) -> Features: ...


@dataclass(frozen=True)
class Limits:
    """Tokens, special tokens included."""

    source: int
    target: int
    prompt: int = 0


class SwcmFeatures:
    """Source between the tokenizer's special tokens, target followed by eos. Monolingual text is noised for the source
    and kept whole for the target. `prefixes`: target language -> text before the source ("<2ug> ")."""

    def __init__(
        self, tokenizer: Any, eos_id: int, limits: Limits, noise: NoiseConfig, prefixes: Mapping[str, str]
    ) -> None:
        self.text = TextEncoder.of(tokenizer)
        self.mask_id = tokenizer.mask_token_id
        self.eos_id = eos_id
        self.limits = limits
        self.noise = noise
        self.prefixes = dict(prefixes)

    def __call__(self, example: Example, rng: np.random.Generator) -> Features:
        prefix = self.prefixes.get(example.target_language or "", "")
        if example.target is not None:
            return {
                "input_ids": self.text.source(prefix + example.source, self.limits.source),
                "labels": self.text.target(example.target, self.eos_id, self.limits.target),
            }
        if self.mask_id is None:
            raise DataError("denoising needs a tokenizer with a mask token")
        return self._denoising(example.source, prefix, rng)

    def _denoising(self, text: str, prefix: str, rng: np.random.Generator) -> Features:
        noised = permute_sentences(text, rng) if self.noise.permute_sentences else text
        tag, ids = self._split_tag(prefix, noised)
        room = self.limits.source - len(tag) - len(self.text.before) - len(self.text.after)
        masked = mask_spans(ids[: max(room, 0)], self.mask_id, self.noise, rng)
        return {
            "input_ids": self.text.wrap([*tag, *masked], self.limits.source),
            "labels": self.text.target(text, self.eos_id, self.limits.target),
        }

    def _split_tag(self, prefix: str, text: str) -> tuple[list[int], list[int]]:
        """(ids of the tag, ids of the text): cut together, as the tag stands before a text at inference; the tag is
        never masked."""
        tag = self.text.bare(prefix.rstrip()) if prefix else []
        together = self.text.bare(prefix + text)
        if together[: len(tag)] == tag:
            return tag, together[len(tag) :]
        return tag, self.text.bare(text)


class FusionFeatures:
    """Source for the encoder; prompt (inside `template`, its "{prompt}" replaced) and target for the LLM, both without
    special tokens: BOS is the model's own, and eos ends the target."""

    def __init__(self, tokenizer: Any, llm_tokenizer: Any, eos_id: int, limits: Limits, template: str | None) -> None:
        self.text = TextEncoder.of(tokenizer)
        self.llm_text = TextEncoder.of(llm_tokenizer)
        self.eos_id = eos_id
        self.limits = limits
        self.template = template

    def __call__(self, example: Example, rng: np.random.Generator) -> Features:
        assert example.target is not None  # fusion sources always have one
        prompt = example.prompt if self.template is None else self.template.replace("{prompt}", example.prompt)
        return {
            "input_ids": self.text.source(example.source, self.limits.source),
            "prompt_ids": self.llm_text.bare(prompt)[: self.limits.prompt] if prompt else [],
            "labels": self.llm_text.target(example.target, self.eos_id, self.limits.target),
        }


class ClassifierFeatures:
    """Source and the label's number."""

    def __init__(self, tokenizer: Any, limits: Limits, label_ids: Mapping[str, int]) -> None:
        self.text = TextEncoder.of(tokenizer)
        self.limits = limits
        self.label_ids = dict(label_ids)

    def __call__(self, example: Example, rng: np.random.Generator) -> Features:
        if example.target not in self.label_ids:
            raise DataError(
                f"{example.place}: label '{example.target}' is not one of the model's"
                f"{nearest(str(example.target), self.label_ids)}"
            )
        return {
            "input_ids": self.text.source(example.source, self.limits.source),
            "labels": self.label_ids[example.target],
        }
