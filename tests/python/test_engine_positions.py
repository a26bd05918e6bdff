"""A model's last position still predicts a token."""

from pathlib import Path

import pytest
import torch

import lrengine
from lrengine.models import SwcmForConditionalGeneration
from tiny import random_sources, randomise, save, tiny_encoder

POSITIONS = 10


@pytest.mark.parametrize("num_beams", [1, 3])
def test_generation_reaches_the_length_that_transformers_reaches(tmp_path: Path, num_beams: int) -> None:
    encoder = tiny_encoder("xlm-roberta", max_position_embeddings=POSITIONS + 2)
    ids = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
    model = randomise(SwcmForConditionalGeneration.from_encoder(encoder, **ids)).eval()
    source = random_sources([6])
    with torch.no_grad():
        expected = model.generate(
            input_ids=torch.tensor(source), max_new_tokens=POSITIONS, num_beams=num_beams, suppress_tokens=[2]
        )
    engine = lrengine.Engine.load(save(model, tmp_path), device="cpu")
    found = engine.generate(source, max_new_tokens=64, num_beams=num_beams, suppress_tokens=[2])[0]
    assert found.tokens == expected[0, 1:].tolist() and len(found.tokens) == POSITIONS
    assert found.finish_reason == "length"
