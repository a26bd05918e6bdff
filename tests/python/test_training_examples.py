"""Every file in examples/train trains as it stands, but for the length of the run: `lrengine train FILE --set run...`.

The names in them that are no part of the project (hub models, corpora) are made here as folders of the same names,
which is what transformers and datasets look for first."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import datasets
import pytest
import yaml
from training_support import SAMPLE

from lrengine import Engine
from lrengine.cli import main
from lrengine.data.tokenization import save_tokenizer, train_tokenizer
from tiny import tiny_encoder, tiny_llm

EXAMPLES = SAMPLE.parents[1] / "examples" / "train"
SHORT = {
    "max_steps": 2, "batch_size": 2, "eval_every": 2, "save_every": 2, "device": "cpu", "workers": 0,
    "tensorboard": "false", "progress": "false",
}  # fmt: skip
AFTER = {"swcm_finetune": "swcm_from_scratch"}  # what another one has to leave behind
LABELS = {0: "Entailment", 1: "Neutral", 2: "Contradiction"}


def rows_of(name: str) -> list[dict[str, Any]]:
    with (SAMPLE / name).open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def sample_without_much(folder: Path) -> None:
    """The bundled sample, a few rows of each split."""
    for path in [*SAMPLE.glob("*.jsonl"), *SAMPLE.glob("emoji/en.jsonl")]:
        rows = rows_of(str(path.relative_to(SAMPLE)))
        kept = [row for row in rows if row.get("split", "train") == "train"][::12]
        kept += [row for row in rows if row.get("split") == "dev"][:20]
        write_rows(folder / path.relative_to(SAMPLE), kept)


def corpora(folder: Path) -> None:
    """Monolingual documents and parallel paragraphs of the declaration of human rights."""
    languages = ("zh", "bo", "ug", "kk", "mn")
    paragraphs = [row for row in rows_of("udhr.jsonl") if all(language in row for language in languages)][:12]
    for language in languages:
        rows = [{"text": text} for row in paragraphs for text in row[language]]
        write_rows(folder / language / "part.jsonl", rows)
    write_rows(folder / "parallel.jsonl", [{code: row[code][0] for code in languages} for row in paragraphs])


def xnli(folder: Path) -> None:
    """A data set with the configuration and the splits of the real one."""
    for split in ("train", "validation"):
        rows = [
            {"premise": f"It is day {n}.", "hypothesis": f"It is night {n}.", "label": n % len(LABELS)}
            for n in range(12)
        ]
        write_rows(folder / "en" / f"{split}.jsonl", rows)
    files = "".join(f"  - {{split: {split}, path: en/{split}.jsonl}}\n" for split in ("train", "validation"))
    (folder / "README.md").write_text(f"---\nconfigs:\n- config_name: en\n  data_files:\n{files}---\n")


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("examples")
    sample_without_much(folder / "data" / "sample")
    corpora(folder / "corpus")
    xnli(folder / "facebook" / "xnli")
    tokenizer = train_tokenizer([str(row["zh"]) for row in rows_of("ui.jsonl")[:40]], 331)
    for name, model in (
        ("hfl/cino-base-v2", tiny_encoder("xlm-roberta")),
        ("google/mt5-large", tiny_encoder("mt5", vocab_size=331)),
        ("meta-llama/Llama-3.2-1B-Instruct", tiny_llm("llama3", vocab_size=331)),
    ):
        model.save_pretrained(folder / name)
        save_tokenizer(tokenizer, folder / name)
    return folder


def train(name: str) -> Path:
    """Trains examples/train/NAME.yaml for two steps, unless that was done; the run's folder."""
    example = EXAMPLES / f"{name}.yaml"
    output_dir = Path(yaml.safe_load(example.read_text(encoding="utf-8"))["run"]["output_dir"])
    if not output_dir.exists():
        overrides = [part for key, value in SHORT.items() for part in ("--set", f"run.{key}={value}")]
        assert main(["train", str(example), *overrides]) == 0
    return output_dir


@pytest.mark.parametrize("name", sorted(path.stem for path in EXAMPLES.glob("*.yaml")))
def test_the_example_trains(name: str, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workplace)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(workplace / "cache"))
    if name in AFTER:
        train(AFTER[name])
    output_dir = train(name)
    log = [json.loads(line) for line in (output_dir / "train_log.jsonl").read_text().splitlines()]
    assert max(entry["step"] for entry in log) == 2
    losses = [entry["loss"] for entry in log if "loss" in entry]
    assert losses and all(math.isfinite(loss) and loss > 0 for loss in losses)
    engine = Engine.load(output_dir, threads=1)
    answers: list[Any] = engine.classify(["a"]) if engine.labels else engine.generate(["a"], max_new_tokens=2)
    assert len(answers) == 1
