"""The processes of a run started by torchrun or `accelerate launch`; one process otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from accelerate import PartialState


class Processes:
    def __init__(self, device: str) -> None:
        self.state = PartialState(cpu=device == "cpu")

    @property
    def count(self) -> int:
        return int(self.state.num_processes)

    @property
    def is_first(self) -> bool:
        return bool(self.state.is_main_process)

    @contextmanager
    def first_one_first(self) -> Iterator[None]:
        """The first process goes through the block alone, then the others: they find the files it wrote."""
        with self.state.main_process_first():
            yield
