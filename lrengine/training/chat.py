"""A chat template as a plain prompt template: the text that an instruction-tuned LLM expects around a user's turn."""

from __future__ import annotations

from typing import Any

from lrengine.errors import DataError

PROMPT = "{prompt}"


def chat_prompt_template(tokenizer: Any) -> str:
    """The tokenizer's chat template with `{prompt}` as the user's turn, up to where the answer starts. Its BOS is left
    out: the model puts BOS before the source. Saved as the config's `prompt_template`, so that the engine does it."""
    if not getattr(tokenizer, "chat_template", None):
        raise DataError("objective.chat_template: the LLM's tokenizer has no chat template")
    messages = [{"role": "user", "content": PROMPT}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    if text.count(PROMPT) != 1:
        raise DataError("objective.chat_template: the LLM's chat template does not repeat the user's turn as it is")
    bos = tokenizer.bos_token
    # a BOS that also starts turns (SmolLM's <|im_start|>) is the template's own
    return str(text.removeprefix(bos) if bos and text.count(bos) == 1 else text)
