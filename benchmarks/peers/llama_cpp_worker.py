"""llama.cpp as a contestant. `--convert SRC DST.gguf q8_0|q4_0|f16` writes a Llama of random weights for it (rows of q
and k stay in Hugging Face's order, which changes the numbers and not the work)."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from worker import Run, serve, source_ids

NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip


def convert(source: Path, target: Path, kind: str) -> None:
    import gguf
    from gguf import quants

    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    stored = {
        "q8_0": gguf.GGMLQuantizationType.Q8_0,
        "q4_0": gguf.GGMLQuantizationType.Q4_0,
        "f16": gguf.GGMLQuantizationType.F16,
    }[kind]
    writer = gguf.GGUFWriter(target, "llama")
    heads, width = config["num_attention_heads"], config["hidden_size"]
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(width)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(config.get("head_dim") or width // heads)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("llama")
    writer.add_token_list([f"<{i}>" for i in range(config["vocab_size"])])
    writer.add_token_scores([0.0] * config["vocab_size"])
    writer.add_token_types([int(gguf.TokenType.NORMAL)] * config["vocab_size"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    for name, wide in tensors(source):
        if wide.ndim == 1:
            writer.add_tensor(name, wide)
        else:
            writer.add_tensor(name, quants.quantize(wide, stored), raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def tensors(source: Path) -> Iterator[tuple[str, np.ndarray]]:
    """GGUF's names and the values in float32, one at a time. Reads the files itself: NumPy has no bfloat16."""
    for path in sorted(source.glob("*.safetensors")):
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            entries = json.loads(file.read(length))
            for name, entry in entries.items():
                if name == "__metadata__":
                    continue
                start, end = entry["data_offsets"]
                file.seek(8 + length + start)
                yield f"{gguf_name(name.removesuffix('.weight'))}.weight", widened(file.read(end - start), entry)


def widened(data: bytes, entry: dict[str, Any]) -> np.ndarray:
    if entry["dtype"] == "BF16":
        values = (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32)
    else:
        values = np.frombuffer(data, {"F32": np.float32, "F16": np.float16}[entry["dtype"]]).astype(np.float32)
    return values.reshape(entry["shape"])


def gguf_name(name: str) -> str:
    if not name.startswith("model.layers."):
        return {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}[name]
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{NAMES[rest]}"


def open_model(message: dict[str, Any]) -> tuple[Run, dict[str, str]]:
    import llama_cpp

    model = llama_cpp.Llama(
        message["directory"],
        n_ctx=1024,
        n_batch=512,
        n_threads=message["threads"],
        n_threads_batch=message["threads"],
        logits_all=False,
        verbose=False,
    )

    def run(workload: dict[str, Any], new_tokens: int) -> None:
        if workload["batch"] > 1 or workload["beams"] > 1:
            raise NotImplementedError("one row, greedy")
        model.reset()
        model.eval(source_ids(workload)[0])
        for _ in range(new_tokens - 1):
            model.eval([greedy(model)])
        greedy(model)

    return run, {"llama-cpp-python": llama_cpp.__version__}


def greedy(model: Any) -> int:
    logits = np.ctypeslib.as_array(model._ctx.get_logits(), shape=(model.n_vocab(),))
    return int(np.argmax(logits))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--convert"]:
        convert(Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
    else:
        serve(open_model)
