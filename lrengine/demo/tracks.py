"""Two training stages at a time, each in a process of its own.

Matrices of this size do not gain from a second thread, and two threads of one process wait for each other whenever the
machine has something else to do; two independent stages use two cores fully.
"""

from __future__ import annotations

import multiprocessing
import queue
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any

from lrengine.demo.progress import Progress
from lrengine.demo.recipe import Recipe
from lrengine.demo.results import Stage
from lrengine.demo.stages import Places, Workshop

POLL = 0.3  # seconds between looks at what the stages report
FIRST = {"encoder": "make_encoder", "llm": "make_llm"}
SECOND = {"swcm": "train_translator", "fusion": "train_fusion", "classifier": "train_classifier"}


def train_all(places: Places, recipe: Recipe, progress: Progress) -> list[Stage]:
    """Every stage of the recipe, in the order of their starts. `Stage.begun` counts from the first one's start."""
    with _workers(recipe) as (executor, reports):
        given = {"encoder": recipe.encoder, "llm": recipe.llm}
        started = time.time()
        first = [method for name, method in FIRST.items() if given[name] is None]
        stages: list[Stage] = []
        for wave in (first, list(SECOND.values())):
            futures = [executor.submit(_run, places, recipe, method, started, reports) for method in wave]
            stages += _gather(futures, reports, progress)
    return sorted(stages, key=lambda stage: stage.begun)


def _run(places: Places, recipe: Recipe, method: str, started: float, reports: Any) -> Stage:
    """One stage, in a worker."""
    import torch

    torch.set_num_threads(recipe.threads_of_a_stage)
    begun = time.time()
    workshop = Workshop(places, recipe, lambda text: reports.put((method, text)))
    stage: Stage = getattr(workshop, method)()
    stage.begun = begun - started
    stage.seconds = time.time() - begun  # with data, tokenizer and saving
    return stage


def _gather(futures: list[Future[Stage]], reports: Any, progress: Progress) -> list[Stage]:
    """The stages' results as they come; an error of one stops the demo."""
    pending = set(futures)
    stages = []
    latest: dict[str, str] = {}
    while pending:
        done, pending = wait(pending, timeout=POLL, return_when=FIRST_COMPLETED)
        for future in done:
            stage = future.result()
            progress.done(f"{stage.title}: {stage.objective}, {stage.steps:,} steps", stage.seconds)
            stages.append(stage)
        for method, text in _drain(reports):
            latest[method] = text
        progress.tick("   ".join(latest.values()))
    return stages


def _drain(reports: Any) -> Iterator[tuple[str, str]]:
    while True:
        try:
            yield reports.get_nowait()
        except queue.Empty:
            return


@contextmanager
def _workers(recipe: Recipe) -> Iterator[tuple[Executor, Any]]:
    """Two processes and the queue they report through; for a quick run, one thread of this process."""
    if recipe.quick:
        with ThreadPoolExecutor(max_workers=1) as executor:
            yield executor, queue.Queue()
        return
    context = multiprocessing.get_context("spawn")  # a forked PyTorch can hang
    with context.Manager() as manager, ProcessPoolExecutor(max_workers=2, mp_context=context) as executor:
        try:
            yield executor, manager.Queue()
        except BaseException:  # nobody waits for what is being trained
            executor.shutdown(wait=False, cancel_futures=True)
            for child in multiprocessing.active_children():
                child.terminate()
            raise
