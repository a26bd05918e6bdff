"""Checkpoints that are whole or absent.

transformers' Trainer writes into `checkpoint-N` itself, so a run killed while it saves leaves half a checkpoint under
the name of a whole one. Here all files go to a staging folder, are flushed, and appear under the final name by one
rename.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from lrengine.durable import flush, flush_tree
from lrengine.errors import DataError

STAGING = ".saving"
RETIRED = ".retired"
CHECKPOINT = re.compile(r"checkpoint-(\d+)")
STATE_FILE = "trainer_state.json"


def whole_checkpoints(output_dir: Path) -> list[Path]:
    """`checkpoint-N` folders, oldest step first."""
    if not output_dir.is_dir():
        return []
    numbered = [
        (int(match[1]), path)
        for path in output_dir.iterdir()
        if (match := CHECKPOINT.fullmatch(path.name)) and (path / STATE_FILE).is_file()
    ]
    return [path for _, path in sorted(numbered)]


def checkpoint_to_resume(output_dir: Path, resume: str) -> Path | None:
    """What `run.resume` means here. Raises DataError for a checkpoint that is not one, and for `never` where there are
    some: a new run would delete them one by one."""
    found = whole_checkpoints(output_dir)
    if resume == "auto":
        return found[-1] if found else None
    if resume == "never":
        if found:
            raise DataError(
                f"{output_dir}: has checkpoints ({found[-1].name}), but run.resume is 'never'; remove them first"
            )
        return None
    path = Path(resume)
    if not (path / STATE_FILE).is_file():
        raise DataError(f"run.resume: {resume} is not a checkpoint (no {STATE_FILE}), nor 'auto' or 'never'")
    return path


def publish(staged: Path, final: Path) -> None:
    """Make the staged folder appear as `final`, whole; a folder of that name from before is replaced."""
    flush_tree(staged)
    retire(final)
    staged.rename(final)
    flush(final.parent)
    clear_retired(final.parent)


def publish_files(staged: Path, directory: Path) -> None:
    """Move the staged files (and folders) into `directory`, each by a rename; config.json last, as it is what makes the
    folder a model."""
    flush_tree(staged)
    for path in sorted(staged.iterdir(), key=lambda path: (path.name == "config.json", path.name)):
        target = directory / path.name
        if path.is_dir():
            retire(target)
        path.rename(target)
    flush(directory)
    clear_retired(directory)
    staged.rmdir()


def keep_newest(output_dir: Path, count: int, best: Path | None) -> None:
    """Delete all but the `count` newest checkpoints and the best one. Each leaves its name before it loses a file."""
    for path in whole_checkpoints(output_dir)[:-count]:
        if best is None or path.resolve() != best.resolve():
            retire(path)
    clear_retired(output_dir)


def clear_leftovers(output_dir: Path) -> None:
    """Remove what a killed run left half written or half deleted."""
    shutil.rmtree(output_dir / STAGING, ignore_errors=True)
    clear_retired(output_dir)


def retire(path: Path) -> None:
    if path.exists():
        folder = path.parent / RETIRED
        folder.mkdir(exist_ok=True)
        shutil.rmtree(folder / path.name, ignore_errors=True)
        path.rename(folder / path.name)


def clear_retired(directory: Path) -> None:
    shutil.rmtree(directory / RETIRED, ignore_errors=True)
