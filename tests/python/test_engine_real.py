"""Real weights: multilingual-e5-small and smollm2-135m-instruct as one layer-fusion model, and the first as an SWCM,
in PyTorch and engine; the demo made from both."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from lrengine import Engine
from lrengine.cli import main
from lrengine.models import LayerFusionForCausalLM, SwcmForConditionalGeneration
from lrengine.quantize import quantize

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif("LRENGINE_REAL" not in os.environ, reason="LRENGINE_REAL names no directory with real weights"),
]

# Article 1 of the Universal Declaration of Human Rights, and user-interface text.
TEXTS = [
    "query: All human beings are born free and equal in dignity and rights.",
    "query: 人人生而自由，在尊严和权利上一律平等。",
    "query: بارلىق ئىنسانلار تۇغۇلۇشىدىنلا ئەركىن، ئىززەت-ھۆرمەت ۋە ھوقۇقتا باپباراۋەر بولۇپ تۇغۇلغان.",
    "query: Барлық адамдар тумысынан азат және қадір-қасиеті мен кұқықтары тең болып дүниеге келеді.",
    "query: འགྲོ་བ་མིའི་རིགས་རྒྱུད་ཡོངས་ལ་སྐྱེས་ཙམ་ཉིད་ནས་ཆེ་མཐོངས་དང༌། ཐོབ་ཐངགི་རང་དབང་འདྲ་མཉམ་དུ་ཡོད་ལ།",
    "query: Хүн бүр төрж мэндлэхдээ эрх чөлөөтэй, адилхан нэр төртэй, ижил эрхтэй байдаг.",
    "query: ok",
    "query: " + "சாளரத்தை மூடு. " * 30,
]
ARTICLES = [
    "All human beings are born free and equal in dignity and rights. They are endowed with reason and conscience and "
    "should act towards one another in a spirit of brotherhood.",
    "Everyone has the right to freedom of thought, conscience and religion; this right includes freedom to change his "
    "religion or belief, and freedom, either alone or in community with others and in public or private, to manifest "
    "his religion or belief in teaching, practice, worship and observance.",
    "Everyone has the right to rest and leisure, including reasonable limitation of working hours and periodic "
    "holidays with pay.",
]
PROMPTS = [
    "The capital of France is",
    "Once upon a time, in a small village by the sea,",
    "Water boils at a temperature of",
    "def fibonacci(n):\n",
    "The three primary colors are",
    "My favourite recipe for bread starts with",
    "The first president of the United States was",
    "A good night's sleep is important because",
    "In machine learning, overfitting means",
    "Dear Sir or Madam,\n\nI am writing to",
]


@pytest.fixture(scope="module")
def real() -> Path:
    return Path(os.environ["LRENGINE_REAL"])


@pytest.fixture(scope="module")
def model(real: Path) -> Iterator[Any]:
    torch.manual_seed(20)
    # On a busy machine PyTorch's threads wait for each other most of the time.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    parts = LayerFusionForCausalLM.from_pretrained_parts(
        real / "multilingual-e5-small", real / "smollm2-135m-instruct", mixer="transformer", dtype=torch.float32
    )
    with torch.no_grad():
        # The LLM's own scale of embeddings, so that the source is read as words of some kind.
        scale = parts.llm.get_input_embeddings().weight.std()
        for layer in parts.mapper.parameters():
            layer.copy_(torch.randn(layer.shape) * scale * (layer.shape[-1] ** -0.5 if layer.dim() > 1 else 1.0))
    yield parts.eval()
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def directory(model: Any, real: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("real")
    model.save_pretrained(target)
    (target / "llm").mkdir()
    for source, copy in (("multilingual-e5-small", target), ("smollm2-135m-instruct", target / "llm")):
        (copy / "tokenizer.json").write_bytes((real / source / "tokenizer.json").read_bytes())
    return target


@pytest.fixture(scope="module")
def engine(directory: Path) -> Engine:
    return Engine.load(directory)


def test_pooled_e5_embeddings(model: Any, engine: Engine, real: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(real / "multilingual-e5-small")
    for text, states in zip(TEXTS, engine.encode(TEXTS, "last"), strict=True):
        with torch.no_grad():
            expected = model.encoder(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0).numpy()
        found = states.mean(0)
        cosine = float(found @ expected / np.linalg.norm(found) / np.linalg.norm(expected))
        assert cosine >= 0.9999
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_64_greedy_tokens_of_smollm2(model: Any, engine: Engine, real: Path) -> None:
    source_tokenizer = AutoTokenizer.from_pretrained(real / "multilingual-e5-small")
    llm_tokenizer = AutoTokenizer.from_pretrained(real / "smollm2-135m-instruct")
    sources = ["query: hello"] * len(PROMPTS)
    answers = engine.generate(sources, prompts=PROMPTS, max_new_tokens=64, min_new_tokens=64)
    distinct = set()
    for source, prompt, answer in zip(sources, PROMPTS, answers, strict=True):
        expected = model.generate(
            torch.tensor([source_tokenizer(source)["input_ids"]]),
            prompt_ids=torch.tensor([llm_tokenizer(prompt, add_special_tokens=False)["input_ids"]]),
            max_new_tokens=64,
            min_new_tokens=64,
            do_sample=False,
        )[0].tolist()
        assert len(expected) == 64
        assert answer.tokens == expected, prompt
        assert answer.text == llm_tokenizer.decode(expected, skip_special_tokens=True)
        distinct.add(tuple(expected))
    assert len(distinct) == len(PROMPTS)


@pytest.mark.parametrize(
    ("dtype", "group_size", "cosine", "nats"),
    [("int8", 64, 0.999, 0.05), ("int4", 32, 0.9999, 0.4), ("int4", 64, 0.98, 1.1), ("int4", 128, 0.97, 0.9)],
)
def test_quantised_weights_keep_embeddings_and_likelihoods(
    engine: Engine, directory: Path, tmp_path: Path, dtype: str, group_size: int, cosine: float, nats: float
) -> None:
    """The least cosine of e5's pooled embeddings, and what a token of English costs SmolLM2 more than before. All of
    these weights were in 4 bits once: e5's on the grid of groups of 32 (so 1.0000 with exact inputs; a CPU rounds what
    it multiplies int4 by, and 0.99990 is left), SmolLM2's on one with a minimum."""
    quantize(directory, tmp_path / "small", dtype, group_size=group_size)
    small = Engine.load(tmp_path / "small")
    widened = Engine.load(tmp_path / "small", dtype="float32")
    expected = [states.mean(0) for states in engine.encode(TEXTS, "last")]
    with_exact_inputs, found = (
        min(
            float(a.mean(0) @ b / np.linalg.norm(a.mean(0)) / np.linalg.norm(b))
            for a, b in zip(each.encode(TEXTS, "last"), expected, strict=True)
        )
        for each in (widened, small)
    )
    sources = ["query: hello"] * len(ARTICLES)
    scores = (each.score(sources, ARTICLES) for each in (small, engine))
    costs = [-np.concatenate([row.token_logprobs for row in rows]).mean() for rows in scores]
    assert with_exact_inputs >= cosine and found >= min(cosine, 0.9998) and costs[0] - costs[1] <= nats


def test_a_gigabyte_opens_in_half_a_second(directory: Path) -> None:
    """The bar is for the weights; tokenizers of 250,000 pieces take their own time and are left out."""
    tokenizers = [directory / "tokenizer.json", directory / "llm" / "tokenizer.json"]
    for path in tokenizers:
        path.rename(path.with_suffix(".away"))
    try:
        seconds = []
        for _ in range(3):
            start = time.perf_counter()
            Engine.load(directory)
            seconds.append(time.perf_counter() - start)
    finally:
        for path in tokenizers:
            path.with_suffix(".away").rename(path)
    assert min(seconds) < 0.5


def test_swcm_from_e5(real: Path, tmp_path: Path) -> None:
    """Nothing has taught its decoder to translate, but a decoder of real weights it is."""
    encoder = real / "multilingual-e5-small"
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    model = SwcmForConditionalGeneration.from_encoder(encoder, tokenizer=tokenizer, dtype=torch.float32).eval()
    model.save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes((encoder / "tokenizer.json").read_bytes())
    engine = Engine.load(tmp_path, threads=1)
    distinct = set()
    for options in ({}, {"no_repeat_ngram_size": 1}):
        answers = engine.generate(TEXTS[:3], max_new_tokens=10, min_new_tokens=10, **options)
        for text, answer in zip(TEXTS[:3], answers, strict=True):
            expected = model.generate(
                torch.tensor([tokenizer(text)["input_ids"]]),
                max_new_tokens=10,
                min_new_tokens=10,
                do_sample=False,
                **options,
            )[0].tolist()
            assert len(expected) == 11, "the start token, and ten"
            assert answer.tokens == expected[1:], (text, options)
            assert answer.text == tokenizer.decode(expected, skip_special_tokens=True)
            distinct.add(tuple(expected))
    assert len(distinct) > 3


def test_quick_demo_from_real_models(real: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--encoder", str(real / "multilingual-e5-small"), "--llm", str(real / "smollm2-135m-instruct")]
    assert main(["demo", "--quick", "--out", str(tmp_path), *given]) == 0
    found = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert {stage["key"] for stage in found["stages"]} == {"swcm", "fusion", "classifier"}
    assert (found["encoder"], found["llm"]) == (given[1], given[3])
    assert len(found["agreement"]) == 3
    for row in found["agreement"]:
        assert row["equal"] == row["count"] > 0, row
        assert row["difference"] < 1e-3, row
    assert all(latency["engine_p50"] > 0 for latency in found["latency"])
    assert (tmp_path / "report.html").is_file()
    assert "outputs identical to PyTorch's" in capsys.readouterr().out
