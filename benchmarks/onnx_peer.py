"""The peer of onnx_decode.py: optimum's ORTModelForSeq2SeqLM, run by a Python that has optimum-onnx.

python onnx_peer.py build DIR SIZES    an M2M100 with random weights of SIZES (JSON), exported to DIR/onnx
python onnx_peer.py serve DIR THREADS  answers each line of standard input, a JSON request {"source", "new_tokens",
                                       "beams", "batch"}, with the seconds that generate() took,
                                           of the clock and of the processors
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any


def build(folder: Path, sizes: dict[str, Any]) -> None:
    if (folder / "onnx" / "config.json").exists():
        return
    import torch
    from optimum.onnxruntime import ORTModelForSeq2SeqLM
    from transformers import M2M100Config, M2M100ForConditionalGeneration

    torch.manual_seed(0)
    M2M100ForConditionalGeneration(M2M100Config(**sizes)).save_pretrained(folder / "torch")
    ORTModelForSeq2SeqLM.from_pretrained(folder / "torch", export=True).save_pretrained(folder / "onnx")


def serve(folder: Path, threads: int) -> None:
    import onnxruntime
    import torch
    from optimum.onnxruntime import ORTModelForSeq2SeqLM

    torch.set_num_threads(threads)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    model = ORTModelForSeq2SeqLM.from_pretrained(folder / "onnx", session_options=options)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        count = request["new_tokens"]
        ids = torch.arange(5, 5 + request["source"])[None].repeat(request["batch"], 1)
        started, began = time.perf_counter(), time.process_time()
        with torch.no_grad():
            answer = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=count,
                min_new_tokens=count,
                num_beams=request["beams"],
                do_sample=False,
            )
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - began
        print(json.dumps({"seconds": seconds, "cpu_seconds": cpu_seconds, "tokens": answer.shape[1] - 1}), flush=True)


def main() -> None:
    command, folder, argument = sys.argv[1:]
    if command == "build":
        build(Path(folder), json.loads(argument))
    else:
        serve(Path(folder), int(argument))


if __name__ == "__main__":
    main()
