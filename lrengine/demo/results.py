"""What one run of the demo found: plain records, written to results.json and drawn by report.py."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path

FEW_STEPS = 150


@dataclass
class Stage:
    """One training stage. `loss` holds (step, loss) points of `loss_name`; `held_out` the same on the dev split."""

    key: str
    title: str
    objective: str
    data: str
    begun: float = 0.0  # seconds after the first stage's start
    seconds: float = 0.0
    steps: int = 0
    trained_parameters: int = 0
    loss: list[tuple[int, float]] = field(default_factory=list)
    held_out: list[tuple[int, float]] = field(default_factory=list)


@dataclass
class TranslationScore:
    """chrF (0 to 100) of one direction over `count` test sentences, with two floors that need no model: the source
    text itself, and an unrelated training sentence of the target language."""

    source: str
    target: str
    count: int
    chrf: float
    copy: float
    unrelated: float


@dataclass
class TranslationSample:
    source: str
    target: str
    text: str
    reference: str
    output: str


@dataclass
class ZeroShotScore:
    """Accuracies (0 to 1) on one language's test split; training saw English labels only."""

    language: str
    count: int
    majority: float
    classifier: float
    fusion: float


@dataclass
class Latency:
    """Milliseconds a call at batch 1 (p50 and p95 over `calls`), and megabytes that opening and using a model adds."""

    model: str
    task: str
    calls: int
    engine_p50: float
    engine_p95: float
    torch_p50: float
    torch_p95: float
    engine_memory: float
    torch_memory: float


@dataclass
class Agreement:
    """Engine against PyTorch on the same test inputs: `equal` of `count` outputs are identical; `difference` is the
    largest absolute difference between the two sides' log-probabilities or class probabilities."""

    model: str
    what: str
    count: int
    equal: int
    difference: float


@dataclass
class HeatMap:
    """Mixer weights of one sentence: weights[token][layer], each row sums to 1."""

    language: str
    text: str
    tokens: list[str]
    weights: list[list[float]]


@dataclass
class DemoResults:
    encoder: str
    llm: str
    machine: str
    versions: str
    threads: int
    dtype: str
    stages: list[Stage] = field(default_factory=list)
    translation: list[TranslationScore] = field(default_factory=list)
    samples: list[TranslationSample] = field(default_factory=list)
    zero_shot: list[ZeroShotScore] = field(default_factory=list)
    latency: list[Latency] = field(default_factory=list)
    agreement: list[Agreement] = field(default_factory=list)
    heat_maps: list[HeatMap] = field(default_factory=list)
    sample_seed: int = 0
    quick: bool = False
    total_seconds: float = 0.0

    @property
    def training_seconds(self) -> float:
        """Wall-clock time from the first stage's start to the last one's end; two stages run at a time."""
        return max((stage.begun + stage.seconds for stage in self.stages), default=0.0)

    @property
    def barely_trained(self) -> list[Stage]:
        """Stages of so few steps that nothing can be expected: a given encoder of 250,000 pieces on two cores, say."""
        return [stage for stage in self.stages if stage.steps < FEW_STEPS]

    def save(self, path: Path) -> None:
        """Write every record as JSON."""
        path.write_text(json.dumps(dataclasses.asdict(self), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
