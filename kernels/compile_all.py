"""Compiles every kernel ahead of time, without a GPU, and tells what it takes of one.

    python -m lrengine.kernels.compile_all --targets 80,86,87,89,90,100 [--dtypes float32 bfloat16 float16]
        [--layers 12 24] [--widths 768 1024] [--kernels NAME ..] [--json OUT]

One line for each kernel, dtype and target: registers a thread, shared memory a block, warps, size of the machine code.
Ends with an error if one does not compile. The kernels are compiled in the forms that the models launch: pointers
aligned to 16 bytes, widths that are multiples of 16, unit strides as constants (Triton makes them so at a launch), with
mask, bias and gradients of the states (what takes the most registers).
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from lrengine.kernels import layer_mix, linear_cross_entropy, mix_mapper, tied_linear, transformer_mix
from lrengine.kernels.dispatch import power_of_two, row_tile
from lrengine.kernels.language import triton

TARGETS = (80, 86, 87, 89, 90, 100)
_POINTERS = {torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.float16: "*fp16"}
_SHARED_BYTES = {80: 166912, 86: 101376, 87: 166912, 89: 101376, 90: 232448, 100: 232448}  # of one block
_MANY_TOKENS = 4096
_MULTIPLES_OF_16 = ("width", "depth", "columns", "weight_column", "a_row", "b_depth", "out_row")


@dataclass(frozen=True)
class Variant:
    """A kernel as it is launched: the type of every argument ("constexpr" for those in `constants`)."""

    name: str
    kernel: Any
    signature: dict[str, Any]
    constants: dict[str, Any]
    warps: int = 4
    stages: int = 3  # Triton's own choice


@dataclass(frozen=True)
class Compiled:
    kernel: str
    dtype: str
    target: int
    registers: int | None
    stack_bytes: int | None
    shared_bytes: int
    warps: int
    code_bytes: int


def variants(dtype: torch.dtype, layers: int, width: int) -> Iterator[Variant]:
    """Every kernel for L `layers` of D `width`; `dtype`: of states, weights and gradients."""
    values, wide = _POINTERS[dtype], "*fp32"
    states, precision = (values,) * layers, "ieee"
    block_t, block_d, warps = row_tile(_MANY_TOKENS, width)
    depth = 128 // dtype.itemsize
    rows = {"LAYERS": layers, "BLOCK_T": block_t, "BLOCK_D": block_d}
    sizes = {"tokens": "i32", "width": "i32"}
    mixing = {"states": states, "logits": wide, "mask": wide}
    block_l = power_of_two(layers)
    yield Variant(
        "layer_mix", layer_mix.mix_forward_kernel,
        {**mixing, "fused": values, "weights": wide, **sizes, "logits_stride": "i32"},
        {"HAS_MASK": True, "LAYERS": layers, "BLOCK_L": block_l, "BLOCK_T": 4, "BLOCK_D": min(block_d, 256)},
    )  # fmt: skip
    yield Variant(
        "layer_mix_backward", layer_mix.mix_backward_kernel,
        {"states": states, "weights": wide, "grad_fused": values, "grad_states": states, "grad_weights": wide, **sizes},
        {"TRAIN_STATES": True, **rows}, warps,
    )  # fmt: skip
    attention = {"states": states, "key": values, "positions": values, "cls": values, "keep": wide, "mixed": values,
                 "total": wide, "scores": wide, "log_sums": wide}  # fmt: skip
    yield Variant(
        "attend_layers",
        transformer_mix.attend_forward_kernel,
        {**attention, **sizes},
        {"HAS_KEEP": True, **rows},
        warps,
    )
    yield Variant(
        "attend_layers_backward", transformer_mix.attend_backward_kernel,
        {**attention, "grad_mixed": values, "grad_total": wide, "grad_states": states, "grad_key": wide,
         "grad_scores": wide, "shares": wide, **sizes},
        {"HAS_KEEP": True, "TRAIN_STATES": True, **rows}, warps,
    )  # fmt: skip
    yield Variant(
        "mix_mapper", mix_mapper.mix_mapper_kernel,
        {**mixing, "weight": values, "bias": values, "mapped": values, "weights": wide, **sizes, "columns": "i32",
         "logits_stride": "i32"},
        {"HAS_MASK": True, "HAS_BIAS": True, "LAYERS": layers, "PRECISION": precision, "BLOCK_L": block_l,
         "BLOCK_T": 16, "BLOCK_E": 128, "BLOCK_D": depth},
        stages=mix_mapper.STAGES,
    )  # fmt: skip
    yield from _tied(values, depth, precision)
    yield from _loss(values, linear_cross_entropy.product_tile(dtype), precision)


def _tied(values: str, depth: int, precision: str) -> Iterator[Variant]:
    """The tied projection of two inputs."""
    two, linear = (values, values), {"columns": "i32", "depth": "i32"}
    yield Variant(
        "tied_linear", tied_linear.tied_product_kernel,
        {"inputs": two, "outputs": two, "starts": ("i32",) * 3, "weight": values, "bias": values, **linear,
         "weight_column": "i32"},
        {"weight_depth": 1, "HAS_BIAS": True, "COUNT": 2, "PRECISION": precision, "BLOCK_M": 64, "BLOCK_N": 64,
         "BLOCK_K": depth},
    )  # fmt: skip
    yield Variant(
        "tied_linear_backward_weight", tied_linear.tied_weight_kernel,
        {"gradients": two, "inputs": two, "sizes": ("i32",) * 2, "grad_weight": values, "grad_bias": values, **linear},
        {"HAS_BIAS": True, "COUNT": 2, "PRECISION": precision, "BLOCK_M": depth, "BLOCK_N": 64, "BLOCK_K": 64},
    )  # fmt: skip


def _loss(values: str, tile: linear_cross_entropy.Tile, precision: str) -> Iterator[Variant]:
    """Linear and cross-entropy."""
    wide = "*fp32"
    shared = {"x": values, "weight": values, "bias": values, "labels": "*i64", "log_sums": wide}
    sizes = {"tokens": "i32", "vocabulary": "i32", "width": "i32"}
    loss_tile = {"HAS_BIAS": True, "PRECISION": precision, "BLOCK_T": tile.rows, "BLOCK_V": tile.columns,
                 "BLOCK_D": tile.depth}  # fmt: skip
    yield Variant(
        "linear_cross_entropy", linear_cross_entropy.loss_kernel, {**shared, "chosen": wide, **sizes, "tiles": "i32"},
        loss_tile, tile.warps,
    )  # fmt: skip
    yield Variant(
        "linear_cross_entropy_probabilities", linear_cross_entropy.probability_kernel,
        {**shared, "changes": values, **sizes, "begin": "i32", "end": "i32", "ignore_index": "i32"}, loss_tile,
        tile.warps,
    )  # fmt: skip
    strides = dict.fromkeys(("a_row", "b_depth", "out_row"), "i32")
    yield Variant(
        "linear_cross_entropy_product", linear_cross_entropy.product_kernel,
        {"a": values, "b": values, "out": wide, "height": "i32", "columns": "i32", "depth": "i32", **strides},
        {"a_depth": 1, "b_column": 1, "ADD": True, "PRECISION": precision, "BLOCK_M": tile.rows,
         "BLOCK_N": tile.columns, "BLOCK_K": tile.depth}, tile.warps,
    )  # fmt: skip


def compile_variant(variant: Variant, dtype: torch.dtype, target: int) -> Compiled:
    """Machine code for compute capability `target` (80: 8.0). Raises what the compiler raises, and RuntimeError if the
    kernel could not be launched there."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = variant.kernel.arg_names
    signature = {name: variant.signature.get(name, "constexpr") for name in names}
    source = ASTSource(
        fn=variant.kernel,
        signature=signature,
        constexprs={(names.index(name),): value for name, value in variant.constants.items()},
        attrs={path: [["tt.divisibility", 16]] for path in _aligned(signature)},
    )
    options = {"num_warps": variant.warps, "num_stages": variant.stages}
    compiled = triton.compile(source, target=GPUTarget("cuda", target, 32), options=options)
    shared = compiled.metadata.shared
    if shared > _SHARED_BYTES.get(target, shared):
        raise RuntimeError(f"needs {shared} bytes of shared memory, there are {_SHARED_BYTES[target]}")
    code = compiled.asm["cubin"]
    registers, stack = _resources(code)
    return Compiled(
        variant.name, str(dtype).removeprefix("torch."), target, registers, stack, shared,
        variant.warps, len(code),
    )  # fmt: skip


def _aligned(signature: dict[str, Any]) -> Iterator[tuple[int, ...]]:
    """Where the multiples of 16 are: (argument,) or (argument, entry of its tuple)."""
    for index, (name, kind) in enumerate(signature.items()):
        if isinstance(kind, tuple):
            yield from ((index, entry) for entry, inner in enumerate(kind) if inner.startswith("*"))
        elif kind.startswith("*") or (kind != "constexpr" and name in _MULTIPLES_OF_16):
            yield (index,)


def _resources(code: bytes) -> tuple[int | None, int | None]:
    """Registers a thread and bytes of stack (spilled registers) by cuobjdump, which comes with Triton."""
    try:
        tool = triton.knobs.nvidia.cuobjdump.path
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "kernel.cubin"
            file.write_bytes(code)
            listing = subprocess.run([tool, "-res-usage", file], capture_output=True, text=True, check=True).stdout
    except (AttributeError, OSError, RuntimeError, subprocess.CalledProcessError):
        return None, None
    found = {name: re.search(rf"{name}:(\d+)", listing) for name in ("REG", "STACK")}
    registers, stack = (int(match[1]) if match else None for match in found.values())
    return registers, stack


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Compile every Triton kernel ahead of time; no GPU is needed.")
    parser.add_argument("--targets", default=",".join(map(str, TARGETS)), help="compute capabilities, as 80,90")
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16", "float16"])
    parser.add_argument("--layers", nargs="+", type=int, default=[12, 24], help="with --widths: one width for each")
    parser.add_argument("--widths", nargs="+", type=int, default=[768, 1024])
    parser.add_argument("--kernels", nargs="+", help="only these")
    parser.add_argument("--json", type=Path, help="also write the table there")
    options = parser.parse_args(arguments)
    if len(options.layers) != len(options.widths):
        parser.error("--layers and --widths need as many numbers")
    results, failures = [], 0
    for dtype in (getattr(torch, name) for name in options.dtypes):
        for layers, width in zip(options.layers, options.widths, strict=True):
            for variant in variants(dtype, layers, width):
                if options.kernels and variant.name not in options.kernels:
                    continue
                for target in map(int, options.targets.split(",")):
                    case = f"{variant.name} {dtype} L={layers} D={width} sm_{target}"
                    try:
                        result = compile_variant(variant, dtype, target)
                    except Exception as error:  # whatever the compiler raises: report it, go on
                        failures += 1
                        print(f"{case}: {type(error).__name__}: {error}", file=sys.stderr)
                        continue
                    results.append({"layers": layers, "width": width, **asdict(result)})
                    print(
                        f"{case}: {result.registers} registers, {result.stack_bytes} bytes of stack, "
                        f"{result.shared_bytes} bytes shared, {result.warps} warps, {result.code_bytes} bytes of code"
                    )
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
