"""Contestants take turns, so that whatever else the machine does hits them alike."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from lrengine.bench import machine
from lrengine.bench.contestant import Contestant, ContestantError, Entry
from lrengine.bench.report import SCHEMA
from lrengine.bench.workload import Workload

logger = logging.getLogger("lrengine.bench")


@dataclass
class Samples:
    """Of one contestant at one workload, a value a round: seconds of a whole request, seconds of a request of one
    token, joules of the whole request; and the process's peak memory so far."""

    request_s: list[float] = field(default_factory=list)
    first_s: list[float] = field(default_factory=list)
    joules: list[float] = field(default_factory=list)
    peak_mib: float | None = None
    failed: str | None = None


def measure(
    entries: Sequence[Entry],
    workloads: Sequence[Workload],
    *,
    threads: int,
    device: str = "cpu",
    rounds: int = 7,
    warm_up: int = 2,
    save: Callable[[dict[str, Any]], None] = lambda report: None,
) -> dict[str, Any]:
    """The report (see report.py, and figures.py for what is made of it). One that cannot be opened, or fails at a
    workload, is reported with its message and left out from then on. `save` gets the report after each workload, so
    that what is cut off is not lost."""
    report: dict[str, Any] = {"schema": SCHEMA, "machine": machine.describe(), "rows": [], "contestants": []}
    report |= {"threads": threads, "device": device, "rounds": rounds}
    bandwidth = machine.ReadBandwidth(threads)
    with contextlib.ExitStack() as stack:
        field_ = _open_all(entries, threads, device, stack, report)
        for workload in workloads:
            samples = _measure_one(field_, workload, rounds, warm_up, bandwidth)
            for contestant, values in samples.items():
                report["rows"].append(_row(contestant.entry, workload, values))
            field_ = [contestant for contestant in field_ if samples[contestant].failed is None]
            report["read_bandwidth_bytes_s"] = bandwidth.samples
            save(report)
    return report


def _open_all(
    entries: Sequence[Entry], threads: int, device: str, stack: contextlib.ExitStack, report: dict[str, Any]
) -> list[Contestant]:
    opened = []
    for entry in entries:
        facts: dict[str, Any] = {"name": entry.name, "dtype": entry.dtype, "step_bytes": entry.step_bytes}
        try:
            contestant = stack.enter_context(Contestant(entry, threads, device))
            opened.append(contestant)
            facts |= {"open_s": contestant.open_s, "versions": contestant.versions}
        except ContestantError as error:
            logger.warning("left out: %s", error)
            facts["failed"] = str(error)
        report["contestants"].append(facts)
    return opened


def _measure_one(
    contestants: Sequence[Contestant], workload: Workload, rounds: int, warm_up: int, bandwidth: machine.ReadBandwidth
) -> dict[Contestant, Samples]:
    logger.info("%s", workload.name)
    samples = {contestant: Samples() for contestant in contestants}
    energy = machine.EnergyMeter()
    for contestant, found in samples.items():
        _attempt(found, partial(_warm_up, contestant, workload, warm_up))
    for turn in range(rounds):
        bandwidth.sample()
        # every second round backwards: nobody always comes after the same one
        for contestant in list(samples)[:: -1 if turn % 2 else 1]:
            if samples[contestant].failed is None:
                _attempt(samples[contestant], partial(_take, contestant, workload, samples[contestant], energy))
    for contestant, found in samples.items():
        if found.failed is None:
            found.peak_mib = contestant.peak_mib()
    return samples


def _warm_up(contestant: Contestant, workload: Workload, requests: int) -> None:
    for _ in range(requests):
        contestant.seconds(workload, workload.new_tokens)


def _take(contestant: Contestant, workload: Workload, samples: Samples, energy: machine.EnergyMeter) -> None:
    if workload.task == "generate":
        # not timed: after the others' turns caches are cold and threads asleep, which the first request would pay for
        # alone, and a token's time, a difference of two requests, come out too short
        contestant.seconds(workload, 1)
        samples.first_s.append(contestant.seconds(workload, 1))
    before = energy.read() if energy.available else []
    samples.request_s.append(contestant.seconds(workload, workload.new_tokens))
    if energy.available:
        samples.joules.append(energy.joules(before, energy.read()))


def _attempt(samples: Samples, action: Callable[[], object]) -> None:
    try:
        action()
    except ContestantError as error:
        logger.warning("left out from here on: %s", error)
        samples.failed = str(error)


def _row(entry: Entry, workload: Workload, samples: Samples) -> dict[str, Any]:
    row: dict[str, Any] = {"name": entry.name, "workload": workload.message()}
    if samples.failed is not None:
        return row | {"failed": samples.failed}
    row |= {"request_s": samples.request_s, "peak_mib": samples.peak_mib, "step_bytes": entry.step_bytes}
    if samples.first_s:
        row["first_s"] = samples.first_s
    if samples.joules:
        row["joules"] = samples.joules
    return row
