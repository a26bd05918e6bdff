"""An export in ONNX Runtime, with the face of the compiled engine (lrengine/_engine.pyi), so that lrengine.Engine's
methods work on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrengine import _engine
from lrengine.errors import InvalidRequestError, ModelFileError, UnsupportedModelError
from lrengine.export.decoders import Decoder, FusionDecoder, SwcmDecoder, padded
from lrengine.export.decoding import SearchState, score
from lrengine.export.manifest_reader import Manifest
from lrengine.export.providers import Provider
from lrengine.export.sessions import Graph
from lrengine.request import Ids

Floats = NDArray[np.float32]

# Logits kept at a time while scoring: 64 MiB of float32, as in the engine.
_LOGITS_AT_A_TIME = 2**24
_ROWS_AT_A_TIME = 32


class OnnxModel:
    """Immutable; any number of threads may use one, each request has its caches. Computing releases the GIL."""

    kernel_launches = 0

    def __init__(self, manifest: Manifest, graphs: dict[str, Graph], provider: Provider, weight_bytes: int) -> None:
        self.manifest, self.graphs, self.provider = manifest, graphs, provider
        self.weight_bytes = weight_bytes
        self.device, self.dtype, self.model_type = provider.name, manifest.dtype, manifest.model_type
        self.labels, self.end_tokens = manifest.labels, manifest.eos
        self.vocab_size, self.max_source_length = manifest.source_vocab_size, manifest.max_source
        self.target_vocab_size, self.max_target_length = manifest.vocab_size, manifest.max_target

    def start(
        self,
        sources: Sequence[Ids],
        prompts: Sequence[Ids],
        prefixes: Sequence[Ids],
        options: dict[str, Any],
        stop: Callable[[int, Ids], bool] | None,
    ) -> _engine.Session:
        self._refuse_unless_it_generates()
        forced = self._forced(prefixes or [np.zeros(0, np.int32)] * len(sources))
        self._check(sources, prompts, forced)
        tokens = [np.concatenate(parts) for parts in zip(prompts, forced, strict=True)]

        def begin(rows_per_source: int, max_new_tokens: int) -> SearchState:
            self._check_profile(len(sources), rows_per_source)
            return SearchState(self._decoder(sources, rows_per_source), tokens, max_new_tokens)

        model = (self.target_vocab_size, self.max_target_length, self.end_tokens)
        return _engine.start_outside(begin, *model, sources, prompts, forced, options, stop)

    def score(self, sources: Sequence[Ids], prompts: Sequence[Ids], targets: Sequence[Ids]) -> list[Floats]:
        self._refuse_unless_it_generates()
        forced = self._forced([np.zeros(0, np.int32)] * len(sources))
        self._check(sources, prompts, forced)
        for index, target in enumerate(targets):
            _check_ids(target, self.target_vocab_size, f"target {index}")
        tokens = [np.concatenate(parts) for parts in zip(prompts, forced, strict=True)]
        answers = [np.zeros(0, np.float32)] * len(sources)
        for part in self._scored_together(targets):
            decoder = self._decoder([sources[i] for i in part], 1)
            found = score(decoder, [tokens[i] for i in part], [targets[i] for i in part])
            _require_finite(found)
            for index, row in zip(part, found, strict=True):
                answers[index] = row
        return answers

    def check_labels(self, sources: Sequence[Ids], prompts: Sequence[Ids], labels: Sequence[Ids]) -> None:
        self._refuse_unless_it_generates()
        self._check(sources, prompts, [])
        for index, label in enumerate(labels):
            _check_ids(label, self.target_vocab_size, f"labels[{index}]")

    def classify(self, sources: Sequence[Ids]) -> list[Floats]:
        self._check_sources(sources)
        rows: list[Floats] = []
        for ids, mask, count in self._batches("classifier", sources):
            (logits,) = self.graphs["classifier"].run(["logits"], input_ids=ids, attention_mask=mask)
            wide = logits[:count].astype(np.float64)
            shifted = wide - wide.max(-1, keepdims=True)
            rows += list((shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))).astype(np.float32))
        _require_finite(rows)
        return rows

    def encode(self, sources: Sequence[Ids], output: str) -> list[Floats]:
        if output not in ("last", "fused", "all", "weights"):
            raise InvalidRequestError(f'output: found "{output}", expected "last", "fused", "all" or "weights"')
        self._check_sources(sources)
        graph, name = self._encoder_output(output)
        found: list[Floats] = []
        for ids, mask, count in self._batches(graph, sources):
            (states,) = self.graphs[graph].run([name], input_ids=ids, attention_mask=mask)
            for row, source in zip(states[:count], sources[len(found) :], strict=False):
                kept = row[:, : len(source)] if output == "all" else row[: len(source)]
                found.append(np.ascontiguousarray(kept, np.float32))
        return found

    def _encoder_output(self, output: str) -> tuple[str, str]:
        """Graph and output that hold `output` of encode()."""
        if self.model_type == "swcm" and output in ("last", "fused"):
            return "encoder", "encoder_states"
        if "encode" not in self.graphs or output not in self.graphs["encode"].file.outputs:
            there = list(self.graphs["encode"].file.outputs) if "encode" in self.graphs else ["last", "fused"]
            raise UnsupportedModelError(
                f'output: "{output}" is not in this export, which has {", ".join(there)}; '
                "use lrengine.Engine on the model directory"
            )
        return "encode", output

    def _batches(self, graph: str, sources: Sequence[Ids]) -> Iterator[tuple[NDArray[Any], NDArray[Any], int]]:
        """ids, mask and the number of sources in them, as many at a time as the graph takes."""
        file = self.graphs[graph].file
        batch, length = file.size("input_ids", 0), file.size("input_ids", 1)
        for first in range(0, len(sources), batch or _ROWS_AT_A_TIME):
            part = sources[first : first + (batch or _ROWS_AT_A_TIME)]
            yield *padded(part, self.manifest.source_pad, batch, length), len(part)

    def _decoder(self, sources: Sequence[Ids], rows_per_source: int) -> Decoder:
        kind = SwcmDecoder if self.model_type == "swcm" else FusionDecoder
        return kind(self.manifest, self.graphs, self.provider, sources, rows_per_source)

    def _scored_together(self, targets: Sequence[Ids]) -> Iterator[list[int]]:
        prefill = self.graphs.get("llm_prefill")
        most = (prefill.file.size("input_ids", 0) if prefill else self._step_batch()) or _ROWS_AT_A_TIME
        part: list[int] = []
        logits = 0
        for index, target in enumerate(targets):
            if not len(target):
                continue
            size = len(target) * self.target_vocab_size
            if part and (len(part) == most or logits + size > _LOGITS_AT_A_TIME):
                yield part
                part, logits = [], 0
            part.append(index)
            logits += size
        if part:
            yield part

    def _step_batch(self) -> int | None:
        """Sources of a static export; None: any number."""
        swcm = self.model_type == "swcm"
        file = self.graphs["decoder_with_past" if swcm else "llm_with_past"].file
        return file.size("attention_mask", 0) if swcm else file.size("input_ids", 0)

    def _refuse_unless_it_generates(self) -> None:
        if self.manifest.cache is None:
            raise InvalidRequestError(f"{self.model_type} models classify and encode; they do not generate")

    def _forced(self, prefixes: Sequence[Ids]) -> list[Ids]:
        start = [] if self.manifest.decoder_start is None else [self.manifest.decoder_start]
        return [np.concatenate([np.asarray(start, np.int32), row]) for row in prefixes]

    def _check_sources(self, sources: Sequence[Ids]) -> None:
        longest = self.max_source_length
        for index, source in enumerate(sources):
            if longest and len(source) > longest:
                raise InvalidRequestError(
                    f"source {index} has {len(source)} tokens, the encoder takes at most {longest}"
                )
            _check_ids(source, self.vocab_size, f"source {index}")

    def _check(self, sources: Sequence[Ids], prompts: Sequence[Ids], forced: Sequence[Ids]) -> None:
        self._check_sources(sources)
        for index, prompt in enumerate(prompts):
            _check_ids(prompt, self.target_vocab_size, f"prompt of source {index}")
        for index, tokens in enumerate(forced):
            _check_ids(tokens, self.target_vocab_size, f"forced tokens of source {index}")

    def _check_profile(self, sources: int, rows_per_source: int) -> None:
        """A static export has the rows it was made for."""
        batch = self._step_batch()
        if batch is None:
            return
        if self.model_type == "swcm":
            rows = self.graphs["decoder_with_past"].file.size("input_ids", 0) or 0
            fits = sources <= batch and rows_per_source <= rows // batch
            room = f"{batch} inputs of {rows // batch} beams"
        else:
            fits, room = sources * rows_per_source <= batch, f"{batch} rows"
        if not fits:
            raise InvalidRequestError(
                f"this static export has room for {room}; found {sources} inputs of {rows_per_source} rows: ask for "
                "fewer at a time, or export with another --static"
            )


def _require_finite(rows: Sequence[Floats]) -> None:
    if not all(np.isfinite(row).all() for row in rows):
        raise ModelFileError("the model's logits are not finite: weights or element type overflow")


def _check_ids(ids: Ids, vocabulary: int, what: str) -> None:
    wrong = np.flatnonzero((ids < 0) | (ids >= vocabulary))
    if len(wrong):
        at = int(wrong[0])
        raise InvalidRequestError(f"{what}: token {at} has id {ids[at]}, expected 0 to {vocabulary - 1}")
