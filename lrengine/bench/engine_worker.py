"""The engine as a contestant: `python -m lrengine.bench.engine_worker`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lrengine
from lrengine.bench.worker import Run, prompt_ids, serve, source_ids


def open_model(message: dict[str, Any]) -> tuple[Run, dict[str, str]]:
    directory = Path(message["directory"])
    engine = lrengine.Engine.load(
        directory, device=message["device"], dtype=message["dtype"] or "auto", threads=message["threads"]
    )
    end_ids = _end_ids(directory)
    fusion = engine.model_type == "layer_fusion"

    def run(workload: dict[str, Any], new_tokens: int) -> None:
        sources = source_ids(workload)
        if workload["task"] == "encode":
            if engine.labels:
                engine.classify(sources)
            else:
                engine.encode(sources)
            return
        answers = engine.generate(
            sources,
            prompts=prompt_ids(workload) if fusion and workload["prompt"] else None,
            max_new_tokens=new_tokens,
            num_beams=workload["beams"],
            suppress_tokens=end_ids,
        )
        if any(len(answer.tokens) != new_tokens for answer in answers):
            raise RuntimeError(
                f"generated {len(answers[0].tokens)} tokens, not {new_tokens}: the model has too few positions"
            )

    return run, {"lrengine": lrengine.__version__, "dtype": engine.dtype, "device": engine.device}


def _end_ids(directory: Path) -> list[int]:
    ids = json.loads((directory / "config.json").read_text(encoding="utf-8")).get("eos_token_id")
    return ids if isinstance(ids, list) else [] if ids is None else [ids]


if __name__ == "__main__":
    serve(open_model)
