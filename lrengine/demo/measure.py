"""Latency, memory and agreement, engine against PyTorch: each side alone in a fresh process, over the same requests.

`python -m lrengine.demo.measure` reads a job (JSON) from its standard input and writes what it found to its standard
output; `run_side` starts it.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lrengine.demo.results import Agreement, Latency
from lrengine.engine import Engine

WARM_UP = 5
MEGABYTE = 1e6


@dataclass
class Job:
    """`kind`: swcm, fusion or classifier. `texts`: compared; `timed`: the texts of the timed calls, in turn.
    `new_tokens`: exactly so many in a timed call (0: until the model stops); `limit`: the most in a compared one."""

    kind: str
    model: str
    side: str  # engine, torch
    threads: int  # of the compared calls; the timed ones are made with one thread and with these, the faster counts
    texts: list[str]
    timed: list[str]
    calls: int
    new_tokens: int
    limit: int


@dataclass
class Findings:
    """Per compared text: the tokens or the label written; `scores`: log-probabilities of the reference tokens, or
    class probabilities. Milliseconds a timed call; megabytes that the model added to the process."""

    outputs: list[Any] = field(default_factory=list)
    scores: list[list[float]] = field(default_factory=list)
    milliseconds: list[float] = field(default_factory=list)
    megabytes: float = 0.0


def run_side(job: Job, reference_tokens: list[list[int]] | None = None) -> Findings:
    """Do a job in a process of its own. `reference_tokens`: the outputs that both sides shall score.
    Raises RuntimeError with the process's last words if it fails."""
    request = json.dumps({"job": asdict(job), "reference_tokens": reference_tokens})
    command = [sys.executable, "-W", "ignore", "-m", "lrengine.demo.measure"]
    places = os.pathsep.join(path for path in sys.path if path)  # a program may have found lrengine by a path it added
    environment = {**os.environ, "PYTHONPATH": places}
    done = subprocess.run(command, input=request, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        raise RuntimeError(f"measuring {job.kind} with {job.side} failed:\n{done.stderr[-2000:]}")
    return Findings(**json.loads(done.stdout.splitlines()[-1]))


def compare(job: Job, title: str, task: str) -> tuple[Latency, Agreement]:
    """Both sides of one model, one after the other."""
    torch_job = Job(**{**asdict(job), "side": "torch"})
    reference = run_side(torch_job)
    tokens = None if job.kind == "classifier" else reference.outputs
    engine = run_side(Job(**{**asdict(job), "side": "engine"}), tokens)
    equal = sum(a == b for a, b in zip(engine.outputs, reference.outputs, strict=True))
    pairs = zip(engine.scores, reference.scores, strict=True)
    difference = max((abs(a - b) for ours, theirs in pairs for a, b in zip(ours, theirs, strict=True)), default=0.0)
    p50, p95 = percentiles(engine.milliseconds)
    torch_p50, torch_p95 = percentiles(reference.milliseconds)
    latency = Latency(
        title, task, job.calls, p50, p95, torch_p50, torch_p95, engine.megabytes, reference.megabytes
    )  # fmt: skip
    what = "label, class probabilities" if job.kind == "classifier" else "greedy tokens, log-probability of each"
    return latency, Agreement(title, what, len(job.texts), equal, difference)


def percentiles(values: list[float]) -> tuple[float, float]:
    """(p50, p95)."""
    cuts = statistics.quantiles(values, n=20, method="inclusive")
    return statistics.median(values), cuts[18]


def resident_bytes() -> int:
    """Resident set of this process; 0 where the system does not say (not Linux)."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    import resource

    return pages * resource.getpagesize()


def faster(runs: list[list[float]]) -> list[float]:
    """The run with the lower median: at small sizes more threads can be slower; each side gets its better number."""
    return min(runs, key=statistics.median)


def timed(call: Callable[[str], Any], job: Job) -> list[float]:
    """Milliseconds of `job.calls` calls after a warm-up."""
    durations = []
    for index in range(WARM_UP + job.calls):
        text = job.timed[index % len(job.timed)]
        start = time.perf_counter()
        call(text)
        durations.append(1000.0 * (time.perf_counter() - start))
    return durations[WARM_UP:]


def thread_counts(job: Job) -> list[int]:
    """All threads last, so that what follows runs with them."""
    return sorted({1, job.threads})


def engine_side(job: Job, reference_tokens: list[list[int]] | None) -> Findings:
    before = resident_bytes()
    engine = Engine.load(job.model, device="cpu", dtype="float32", threads=job.threads)
    found = Findings()
    if job.kind == "classifier":
        labelled = engine.classify(job.texts)
        found.outputs = [result.label for result in labelled]
        found.scores = [[result.scores[name] for name in sorted(result.scores)] for result in labelled]
    else:
        written = [engine.generate(text, max_new_tokens=job.limit)[0] for text in job.texts]
        found.outputs = [list(result.tokens) for result in written]
        asked = list(zip(job.texts, reference_tokens or [], strict=True))
        found.scores = [engine.score(text, [tokens])[0].token_logprobs if tokens else [] for text, tokens in asked]
    found.megabytes = (resident_bytes() - before) / MEGABYTE
    runs = []
    for threads in thread_counts(job):
        engine = Engine.load(job.model, device="cpu", dtype="float32", threads=threads)
        runs.append(timed(engine_request(engine, job), job))
    found.milliseconds = faster(runs)
    return found


def engine_request(engine: Engine, job: Job) -> Callable[[str], Any]:
    if job.kind == "classifier":
        return engine.classify
    most, least = job.new_tokens or job.limit, job.new_tokens
    return lambda text: engine.generate(text, max_new_tokens=most, min_new_tokens=least)


def torch_side(job: Job) -> Findings:
    import torch
    from transformers.utils import logging

    from lrengine.evaluation.torch_model import TorchModel

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(job.threads)
    before = resident_bytes()
    model = TorchModel(Path(job.model), "cpu")
    found = Findings()
    if job.kind == "classifier":
        rows = [model.probabilities([text])[0].tolist() for text in job.texts]
        by_label = [dict(zip(model.labels, row, strict=True)) for row in rows]
        found.outputs = [max(scores, key=scores.__getitem__) for scores in by_label]
        found.scores = [[scores[name] for name in sorted(scores)] for scores in by_label]
    else:
        found.outputs = [model.generate([text], max_new_tokens=job.limit)[0] for text in job.texts]
        found.scores = [model.score(text, tokens) for text, tokens in zip(job.texts, found.outputs, strict=True)]
    found.megabytes = (resident_bytes() - before) / MEGABYTE
    runs = []
    for threads in thread_counts(job):
        torch.set_num_threads(threads)
        runs.append(timed(torch_request(model, job), job))
    found.milliseconds = faster(runs)
    return found


def torch_request(model: Any, job: Job) -> Callable[[str], Any]:
    """From text to text or label, as engine_request."""
    if job.kind == "classifier":
        return lambda text: model.labels[int(model.probabilities([text]).argmax())]
    most, least = job.new_tokens or job.limit, job.new_tokens
    return lambda text: model.text(model.generate([text], max_new_tokens=most, min_new_tokens=least)[0])


def main() -> None:
    request = json.loads(sys.stdin.read())
    job = Job(**request["job"])
    found = engine_side(job, request["reference_tokens"]) if job.side == "engine" else torch_side(job)
    print(json.dumps(asdict(found)))


if __name__ == "__main__":
    main()
