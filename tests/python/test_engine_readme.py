"""The README's Python, run as it stands, on tiny models in place of the demo's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import small_tokenizers

import lrengine
from tiny import tiny_classifier, tiny_swcm

README = Path(__file__).parents[2] / "README.md"
DEMO_MODELS = "demo/models"


def test_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert blocks
    monkeypatch.chdir(tmp_path)
    for name, model in (("swcm", tiny_swcm(tie_word_embeddings=False)), ("classifier", tiny_classifier())):
        directory = Path(DEMO_MODELS, name)
        model.save_pretrained(directory)
        small_tokenizers.save(small_tokenizers.unigram(), directory)
    for block in blocks:
        names: dict[str, object] = {}
        exec(compile(block, str(README), "exec"), names)  # noqa: S102 (our own text)
        classifier, states, weights = names["classifier"], names["states"], names["weights"]
        # What its comments say of the shapes.
        assert isinstance(classifier, lrengine.Engine) and isinstance(states, list) and isinstance(weights, list)
        pieces = len(classifier.pieces("күлімсіреген бет"))
        assert [array.shape for array in states] == [(pieces, 72)]
        assert [array.shape for array in weights] == [(pieces, 3)]
    assert re.search(r"-\d+\.\d+ (stop|length)\n", capsys.readouterr().out)
