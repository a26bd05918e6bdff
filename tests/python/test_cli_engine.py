"""info, generate, classify, score and inspect from the command line say what the Engine says."""

from __future__ import annotations

import io
import json
from argparse import Namespace
from pathlib import Path

import pytest
import small_tokenizers

from lrengine import Engine, _engine
from lrengine.cli import main
from lrengine.cli.engine_arguments import batches
from tiny import tiny_classifier, tiny_fusion, tiny_swcm

TEXTS = ["the quick fox", "ئۇيغۇر تىلى", ""]


@pytest.fixture(scope="module")
def swcm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("swcm")
    tiny_swcm(tie_word_embeddings=False).save_pretrained(directory)
    small_tokenizers.save(small_tokenizers.unigram(), directory)
    return directory


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("classifier")
    tiny_classifier().save_pretrained(directory)
    small_tokenizers.save(small_tokenizers.unigram(), directory)
    return directory


def lines(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[str]:
    """Standard output of a command that succeeds."""
    assert main([str(argument) for argument in arguments]) == 0
    return capsys.readouterr().out.split("\n")[:-1]


def test_generate_answers_every_input_in_order(swcm: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = Engine.load(swcm).generate(TEXTS, max_new_tokens=6, num_beams=2, early_stopping="never")
    options = ("--max-new-tokens", 6, "--num-beams", 2, "--early-stopping", "never")
    assert lines(capsys, "generate", swcm, *TEXTS, *options) == [answer.text for answer in expected]
    streamed = lines(capsys, "generate", swcm, TEXTS[0], "--stream", "--max-new-tokens", 6)
    assert streamed == lines(capsys, "generate", swcm, TEXTS[0], "--max-new-tokens", 6)


def test_options_and_texts_come_in_any_order(swcm: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--max-new-tokens", "3", "--json"]
    printed = []
    for arguments in (
        [str(swcm), "fox", "dog", *options],
        [str(swcm), *options, "fox", "dog"],
        [*options, str(swcm), "fox", "dog"],
        [str(swcm), "fox", *options, "dog"],
    ):
        assert main(["generate", *arguments]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0].count("\n") == 2 and set(printed) == {printed[0]}


def test_generate_reads_lines_and_writes_json(
    swcm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A line separator of Unicode is part of a line.
    texts = [*TEXTS, "a\u2028b"]
    options = ("--json", "--max-new-tokens", 5, "--batch-size", 2, "--stop", "x", "--prefix", "the", "--threads", 1)
    (tmp_path / "in.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    found = [json.loads(line) for line in lines(capsys, "generate", swcm, "--input", tmp_path / "in.txt", *options)]
    answers = Engine.load(swcm).generate(texts, max_new_tokens=5, stop="x", prefix="the")
    assert [row["input"] for row in found] == texts
    assert [(row["text"], row["tokens"]) for row in found] == [(answer.text, answer.tokens) for answer in answers]
    # Whatever the locale says standard input is.
    for newline in (b"\n", b"\r\n"):
        raw = newline.join(text.encode() for text in texts) + newline
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(raw), encoding="latin-1"))
        assert [json.loads(line) for line in lines(capsys, "generate", swcm, *options)] == found


def test_a_carriage_return_inside_a_line_is_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("a\rb\u0085c\nд".encode()), encoding="latin-1"))
    assert list(batches(Namespace(batch_size=8, texts=[], input=None))) == [["a\rb\u0085c", "д"]]


def test_input_that_is_not_utf8_is_named_with_its_line(
    swcm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = b"fine\nbroken \xff\n"
    (tmp_path / "in.txt").write_bytes(raw)
    assert main(["generate", str(swcm), "--input", str(tmp_path / "in.txt")]) == 2
    assert "in.txt:2: not UTF-8" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(raw), encoding="latin-1"))
    assert main(["generate", str(swcm)]) == 2
    assert "standard input:2: not UTF-8" in capsys.readouterr().err


def test_every_option_of_the_engine_is_one_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["generate", "--help"])
    shown = capsys.readouterr().out
    for name, _, _ in _engine.option_table():
        assert "--" + name.replace("_", "-") in shown


def test_classify(classifier: Path, swcm: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = Engine.load(classifier).classify(TEXTS)
    found = [json.loads(line) for line in lines(capsys, "classify", classifier, *TEXTS, "--json")]
    assert [row["label"] for row in found] == [answer.label for answer in expected]
    assert [row["scores"] for row in found] == [pytest.approx(answer.scores) for answer in expected]
    (line,) = lines(capsys, "classify", swcm, "dog", "--label", "fox", "--label", "lazy")
    label, probability = line.split("\t")
    (answer,) = Engine.load(swcm).classify("dog", ["fox", "lazy"])
    assert label == answer.label and float(probability) == pytest.approx(answer.scores[label], abs=1e-4)


def test_score(swcm: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = lines(capsys, "score", swcm, "dog\tthe fox")
    assert line == f"{Engine.load(swcm).score('dog', 'the fox')[0].logprob:.4f}\tthe fox"
    assert main(["score", str(swcm), "a\tb", "no tab"]) == 2
    assert "line 2: found no tab" in capsys.readouterr().err


def test_inspect_shows_a_bar_a_layer(classifier: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (row,) = [json.loads(line) for line in lines(capsys, "inspect", classifier, "the fox", "--json")]
    weights = Engine.load(classifier).encode("the fox", "weights")[0]
    assert row["weights"] == weights.tolist() and row["tokens"][0] == "<s>"
    table = lines(capsys, "inspect", classifier, "the fox")
    assert len(table) == len(weights)
    for line, layers in zip(table, weights, strict=True):
        assert line.endswith(f"layer {layers.argmax() + 1}: {layers.max():.3f}")


def test_info(swcm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = lines(capsys, "info", swcm, "--json")
    facts = json.loads(line)
    assert facts["model_type"] == "swcm" and facts["device"] == "cpu" and facts["weights"] == "float32"
    assert facts["encoder"] == "xlm-roberta, 3 layers, width 72, vocabulary 331"
    tiny_fusion(encoder="m2m_100").save_pretrained(tmp_path)
    shown = "\n".join(lines(capsys, "info", tmp_path))
    for fact in ("m2m_100, 3 layers, width 72", "llama, 2 layers, width 60", "transformer", "linear"):
        assert fact in shown


def test_errors_are_one_line_without_a_traceback(
    swcm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, message in (
        (["generate", swcm, "a", "--num-beams", 0], "lrengine generate: num_beams: found 0, expected at least 1"),
        (["generate", tmp_path / "absent", "a"], "absent"),
        (["generate", swcm, "--input", tmp_path / "absent.txt"], "absent.txt"),
        (["classify", swcm, "a"], "labels: found none"),
        (["inspect", swcm, "a"], "lrengine inspect:"),
        (["info", swcm, "--device", "cuda"], "no CUDA backend"),
    ):
        assert main([str(argument) for argument in arguments]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    assert main(["generate", str(swcm), "--input", str(tmp_path / "latin.txt")]) == 2
    assert "not UTF-8" in capsys.readouterr().err
