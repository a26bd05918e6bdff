"""Decoder graphs of one request: whole sequences in, or a token a row; logits out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lrengine.export.flat_cache import FlatCache
from lrengine.export.manifest_reader import Manifest
from lrengine.export.providers import Provider
from lrengine.export.sessions import Binding, DeviceTensor, Graph
from lrengine.request import Ids

Floats = NDArray[np.float32]
Int64s = NDArray[np.int64]


def padded(rows: Sequence[Ids], pad: int, batch: int | None = None, length: int | None = None) -> tuple[Int64s, Int64s]:
    """ids [batch, length] and their mask; as many and as long as the rows are (a token at least), unless sizes are
    given."""
    batch = batch or len(rows)
    length = length or max(1, *(len(row) for row in rows)) if len(rows) else 1
    ids, mask = np.full((batch, length), pad, np.int64), np.zeros((batch, length), np.int64)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = row
        mask[index, : len(row)] = 1
    return ids, mask


class Decoder(ABC):
    """One request's caches. Sources are numbered as in the request; a search row (`slot`, as in
    csrc/models/generator.h) belongs to source slot // rows_per_source. Not thread-safe."""

    step_graph: str

    def __init__(
        self,
        manifest: Manifest,
        graphs: dict[str, Graph],
        provider: Provider,
        sources: Sequence[Ids],
        rows_per_source: int,
    ) -> None:
        self.manifest, self.graphs, self.provider = manifest, graphs, provider
        self.sources, self.rows_per_source = len(sources), rows_per_source
        file = graphs[self.step_graph].file
        self.fixed_rows = file.size("input_ids", 0)
        self.fixed_past = file.size("cache_rows", 1)
        self._step = graphs[self.step_graph].bind()
        self._cache: FlatCache | None = None
        self._logits = np.zeros((0, manifest.vocab_size), np.float32)
        self._own_slots = np.arange(self.sources, dtype=np.int32) * rows_per_source
        self._read(sources)

    @abstractmethod
    def _read(self, sources: Sequence[Ids]) -> None:
        """Runs the encoder's side; the last thing that a decoder is made of."""

    @abstractmethod
    def first_length(self, source: int) -> int:
        """Cache positions before a source's first token."""

    def reserve(self, fed: int, steps: int, capacity: int) -> None:
        """Room for sequences of `fed` tokens of every source, and `steps` steps of all rows."""
        assert self.manifest.cache is not None
        rows = self.fixed_rows or self.sources * self.rows_per_source
        first = fed * (self.fixed_rows or self.sources)
        slots, bound = first + rows * steps, None
        if self.fixed_past is not None:
            bound = self.graphs[self.step_graph].file.size("past_key_0", 0)
            slots = max(slots, bound or 0)
        self._cache = FlatCache(
            self.manifest.cache, slots, self.sources * self.rows_per_source, capacity, self.provider, bound
        )
        self._cache.give_past(self._step)

    @property
    def cache(self) -> FlatCache:
        assert self._cache is not None  # reserve() comes first
        return self._cache

    def feed(self, tokens: Sequence[Ids], wanted: Sequence[range]) -> Floats:
        """Runs every source's sequence into its first search row; logits [sum of wanted, V] after the positions
        `wanted` of each, what comes before its first token included."""
        longest = max(self.first_length(b) + len(row) for b, row in enumerate(tokens))
        if longest > 1 and self.fixed_past is None:
            return self._feed_whole(tokens, wanted)
        return self._feed_by_steps(tokens, wanted)

    @abstractmethod
    def _feed_whole(self, tokens: Sequence[Ids], wanted: Sequence[range]) -> Floats: ...

    def _feed_by_steps(self, tokens: Sequence[Ids], wanted: Sequence[range]) -> Floats:
        """A token at a time behind what a prefill reads: of static graphs, and of sequences of one token."""
        starts = np.cumsum([0, *(len(each) for each in wanted)])
        logits = np.empty((int(starts[-1]), self.manifest.vocab_size), np.float32)
        ends = np.asarray([self.first_length(b) + len(row) for b, row in enumerate(tokens)])
        read = np.zeros(len(tokens), np.int64)
        if self.fixed_past is not None:
            read, last = self._prefill(tokens, wanted)
            for source, of_source in last.items():
                logits[starts[source]] = of_source
        for step in range(int((ends - read).max())):
            there = np.flatnonzero(read + step < ends).astype(np.int32)
            lengths = (read[there] + step).astype(np.int32)
            ids = [self._token_at(b, at, tokens[b]) for b, at in zip(there.tolist(), lengths.tolist(), strict=True)]
            slots = self._own_slots[there]
            found = self._run_step(np.asarray(ids, np.int64), slots, there, lengths, None, per_source=1)
            for row, (b, at) in enumerate(zip(there.tolist(), lengths.tolist(), strict=True)):
                if at in wanted[b]:
                    logits[starts[b] + wanted[b].index(at)] = found[row]
        return logits

    def _prefill(self, tokens: Sequence[Ids], wanted: Sequence[range]) -> tuple[Int64s, dict[int, Floats]]:
        """Of a static export: how many positions of each row one run has read, and the first wanted logits of the rows
        that it reached."""
        return np.zeros(len(tokens), np.int64), {}

    def _token_at(self, source: int, position: int, tokens: Ids) -> int:
        return int(tokens[position - self.first_length(source)])

    def step(self, tokens: Ids, slots: Ids, sources: Ids, lengths: Ids, history: Ids | None) -> Floats:
        """A token a row, as DecodeState::step() of csrc/models/generator.h: logits [M, V] until the next call."""
        return self._run_step(tokens.astype(np.int64), slots, sources, lengths, history, self.rows_per_source)

    def _run_step(
        self, tokens: Int64s, slots: Ids, sources: Ids, lengths: Ids, history: Ids | None, per_source: int
    ) -> Floats:
        row, rows = self._place(slots, sources, per_source)
        past = self.fixed_past or max(1, int(lengths.max()))
        ids = np.full((rows, 1), self.manifest.pad, np.int64)
        position, cache_rows = np.zeros(rows, np.int64), np.zeros((rows, past), np.int64)
        ids[row, 0] = tokens
        position[row] = lengths
        known = self.cache.rows(slots, history, past)
        cache_rows[row, : known.shape[1]] = known
        self._step.give(input_ids=ids, position=position, cache_rows=cache_rows)
        self._bind_step(self._step, row, sources, lengths, rows)
        first = self.cache.take_new(self._step, *self._new_sizes(rows))
        self.cache.name(slots, lengths, first + row)
        if len(self._logits) != rows:
            self._logits = np.empty((rows, self.manifest.vocab_size), np.float32)
            self._step.fill("logits", self._logits)
        self._step.run()
        return self._rows_of(row)

    def _rows_of(self, row: Int64s) -> Floats:
        """Without a copy where the rows follow each other."""
        if row[-1] - row[0] + 1 == len(row) and (np.diff(row) == 1).all():
            return self._logits[int(row[0]) : int(row[-1]) + 1]
        return self._logits[row]

    @abstractmethod
    def _place(self, slots: Ids, sources: Ids, per_source: int) -> tuple[Int64s, int]:
        """The graph's row of each search row, and how many rows the graph runs."""

    @abstractmethod
    def _bind_step(self, binding: Binding, row: Int64s, sources: Ids, lengths: Ids, rows: int) -> None:
        """What this family's step reads besides."""

    @abstractmethod
    def _new_sizes(self, rows: int) -> tuple[int, ...]: ...


class SwcmDecoder(Decoder):
    """Cross K and V are made once a source and stay on the device. A step runs the beams of consecutive sources, from
    the first to the last that still runs: their part of cross K and V is an address. Rows among them that have ended
    run along."""

    step_graph = "decoder_with_past"

    def _read(self, sources: Sequence[Ids]) -> None:
        file = self.graphs["encoder"].file
        self._batch = file.size("input_ids", 0)
        ids, mask = padded(sources, self.manifest.source_pad, self._batch, file.size("input_ids", 1))
        self._mask = mask
        self._cross = self._encode(ids, mask)
        self._bound = (-1, -1)

    def first_length(self, source: int) -> int:
        return 0

    def _encode(self, ids: Int64s, mask: Int64s) -> dict[str, DeviceTensor]:
        cache = self.manifest.cache
        assert cache is not None
        heads, width = cache.cross_heads, cache.cross_dim
        batch, length = ids.shape
        cross = {}
        binding = self.graphs["encoder"].bind()
        binding.give(input_ids=ids, attention_mask=mask)
        for layer in range(cache.layers):
            for name, shape in (
                (f"cross_key_{layer}", (batch, heads, width, length)),
                (f"cross_value_{layer}", (batch, heads, length, width)),
            ):
                cross[name] = DeviceTensor(shape, cache.cross_type, self.provider)
                binding.write(name, cross[name].whole)
        binding.run()
        return cross

    def _bind_cross(self, binding: Binding, first: int, count: int) -> None:
        binding.give(attention_mask=self._mask[first : first + count])
        for name, tensor in self._cross.items():
            binding.read(name, tensor.part(first, (count, *tensor.shape[1:])))

    def _place(self, slots: Ids, sources: Ids, per_source: int) -> tuple[Int64s, int]:
        beam = (slots - sources * self.rows_per_source).astype(np.int64)
        if self.fixed_rows is not None:
            return sources * (self.fixed_rows // self._mask.shape[0]) + beam, self.fixed_rows
        first, last = int(sources.min()), int(sources.max())
        return (sources - first) * per_source + beam, (last - first + 1) * per_source

    def _bind_step(self, binding: Binding, row: Int64s, sources: Ids, lengths: Ids, rows: int) -> None:
        first, count = int(sources.min()), int(sources.max()) - int(sources.min()) + 1
        if self.fixed_rows is not None:
            first, count = 0, self._mask.shape[0]
        if (first, count) != self._bound:
            self._bound = (first, count)
            self._bind_cross(binding, first, count)

    def _new_sizes(self, rows: int) -> tuple[int, ...]:
        return (rows,)

    def _feed_whole(self, tokens: Sequence[Ids], wanted: Sequence[range]) -> Floats:
        ids, _ = padded(tokens, self.manifest.pad)
        length = ids.shape[1]
        picked = np.concatenate([np.asarray(each, np.int64) + b * length for b, each in enumerate(wanted)])
        binding = self.graphs["decoder"].bind()
        binding.give(input_ids=ids, logit_rows=picked)
        self._bind_cross(binding, 0, self.sources)
        first = self.cache.take_new(binding, self.sources, length)
        for b, row in enumerate(tokens):
            positions = np.arange(len(row))
            self.cache.name(int(self._own_slots[b]), positions, first + b * length + positions)
        logits = np.empty((len(picked), self.manifest.vocab_size), np.float32)
        binding.fill("logits", logits)
        binding.run()
        return logits


class FusionDecoder(Decoder):
    """The LLM reads the mapped source (embeddings of no token: id -1), then tokens. Rows that have ended are left
    out."""

    step_graph = "llm_with_past"

    def _read(self, sources: Sequence[Ids]) -> None:
        self._prefixes = self._map(sources)
        self._width = self._prefixes[0].shape[1]
        self._bound_rows = -1

    def first_length(self, source: int) -> int:
        return len(self._prefixes[source])

    def _map(self, sources: Sequence[Ids]) -> list[Floats]:
        file = self.graphs["prefix"].file
        batch, length = file.size("input_ids", 0), file.size("input_ids", 1)
        found: list[Floats] = []
        for first in range(0, len(sources), batch or len(sources)):
            part = sources[first : first + (batch or len(sources))]
            ids, mask = padded(part, self.manifest.source_pad, batch, length)
            prefix, lengths = self.graphs["prefix"].run(["prefix", "lengths"], input_ids=ids, attention_mask=mask)
            found += [prefix[b, : int(lengths[b])] for b in range(len(part))]
        return found

    def _place(self, slots: Ids, sources: Ids, per_source: int) -> tuple[Int64s, int]:
        return np.arange(len(slots)), self.fixed_rows or len(slots)

    def _bind_step(self, binding: Binding, row: Int64s, sources: Ids, lengths: Ids, rows: int) -> None:
        mapped = [(r, b, t) for r, b, t in zip(row, sources, lengths, strict=True) if t < self.first_length(b)]
        if not mapped and rows == self._bound_rows:
            return
        embeds = np.zeros((rows, 1, self._width), np.float32)
        for r, b, t in mapped:
            embeds[r, 0] = self._prefixes[b][t]
        binding.give(embeds=embeds, logit_rows=np.arange(rows, dtype=np.int64))
        self._bound_rows = -1 if mapped else rows

    def _new_sizes(self, rows: int) -> tuple[int, ...]:
        return (rows, 1)

    def _token_at(self, source: int, position: int, tokens: Ids) -> int:
        first = self.first_length(source)
        return -1 if position < first else int(tokens[position - first])

    def _feed_whole(self, tokens: Sequence[Ids], wanted: Sequence[range]) -> Floats:
        lengths = [self.first_length(b) + len(row) for b, row in enumerate(tokens)]
        count, longest = len(tokens), max(lengths)
        picked = np.concatenate([np.asarray(each, np.int64) + b * longest for b, each in enumerate(wanted)])
        logits = self._read_rows(self._step, tokens, lengths, (count, longest), picked)
        self._bound_rows, self._logits = -1, self._logits[:0]  # what is bound now is of another shape
        return logits

    def _prefill(self, tokens: Sequence[Ids], wanted: Sequence[range]) -> tuple[Int64s, dict[int, Floats]]:
        graph = self.graphs.get("llm_prefill")
        if graph is None or len(tokens) > (graph.file.size("input_ids", 0) or 0):
            return super()._prefill(tokens, wanted)  # more sources than it takes, in the rows of beams
        shape = (graph.file.size("input_ids", 0) or 0, graph.file.size("input_ids", 1) or 0)
        # A row's logits come out of one place: the first that is wanted, or the last that fits.
        lengths = [min(shape[1], each.start + 1) for each in wanted]
        picked = np.arange(shape[0], dtype=np.int64) * shape[1]
        picked[: len(lengths)] += np.asarray(lengths) - 1
        binding = graph.bind()
        self.cache.give_past(binding)
        logits = self._read_rows(binding, tokens, lengths, shape, picked)
        reached = {b: logits[b] for b, length in enumerate(lengths) if length == wanted[b].start + 1}
        return np.asarray(lengths, np.int64), reached

    def _read_rows(
        self, binding: Binding, tokens: Sequence[Ids], lengths: Sequence[int], shape: tuple[int, int], picked: Int64s
    ) -> Floats:
        """Runs the first lengths[b] positions of every row, right-padded to `shape`, into an empty cache; the logits of
        the places `picked`."""
        ids = np.full(shape, self.manifest.pad, np.int64)
        embeds = np.zeros((*shape, self._width), np.float32)
        for b, (row, length) in enumerate(zip(tokens, lengths, strict=True)):
            first = min(self.first_length(b), length)
            ids[b, :first] = -1
            ids[b, first:length] = row[: length - first]
            embeds[b, :first] = self._prefixes[b][:first]
        binding.give(input_ids=ids, embeds=embeds, logit_rows=picked)
        binding.give(position=np.zeros(shape[0], np.int64), cache_rows=np.zeros((shape[0], 1), np.int64))
        begin = self.cache.take_new(binding, *shape)
        for b, length in enumerate(lengths):
            positions = np.arange(length)
            self.cache.name(int(self._own_slots[b]), positions, begin + b * shape[1] + positions)
        logits = np.empty((len(picked), self.manifest.vocab_size), np.float32)
        binding.fill("logits", logits)
        binding.run()
        return logits
