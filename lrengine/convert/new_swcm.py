"""A new SWCM made of a Hugging Face encoder directory: `lrengine convert ENCODER DST --type swcm-from-encoder`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lrengine.convert.options import ConvertOptions
from lrengine.convert.tokenizer_files import copy_tokenizer, has_tokenizer
from lrengine.errors import ModelFileError, UnsupportedModelError
from lrengine.models import SwcmForConditionalGeneration


def write_new_swcm(source: Path, folder: Path, options: ConvertOptions) -> None:
    """Into the empty directory `folder`; the decoder starts from the encoder's weights, the rest is SwcmConfig's own.

    Raises ModelFileError when `source` is no readable directory, UnsupportedModelError when it cannot serve."""
    if not (source / "config.json").is_file():
        raise ModelFileError(f"{source}: expected a directory with the config.json of an encoder")
    place = options.tokenizer or (source if has_tokenizer(source) else None)
    given = {"bos_token_id": options.bos_id, "pad_token_id": options.pad_id, "eos_token_id": options.eos_id}
    fields: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    try:
        model = SwcmForConditionalGeneration.from_encoder(source, tokenizer=_tokenizer(place), **fields)
    except ValueError as error:
        raise UnsupportedModelError(f"{source}: {error}") from error
    except (OSError, RuntimeError, KeyError) as error:
        raise ModelFileError(f"{source}: the encoder cannot be read: {error}") from error
    model.save_pretrained(folder)
    if place is not None:
        copy_tokenizer(place, folder)


def _tokenizer(place: Path | None) -> Any:
    if place is None:
        return None
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(place, local_files_only=True, trust_remote_code=False)
