"""The engine: a loaded model directory, ready to generate, classify, score and encode."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from lrengine import _engine
from lrengine.cuda_libraries import preload_cublaslt
from lrengine.errors import InvalidRequestError, ModelFileError
from lrengine.native import NativeModel
from lrengine.options import GenerateOptions, StreamOptions
from lrengine.pieces import Answer, in_pieces
from lrengine.request import (
    INT32,
    Ids,
    Inputs,
    describe,
    encoder_of,
    label_list,
    lengths,
    name_of,
    one_each,
    rows,
    stop_strings,
)
from lrengine.results import Classification, Generation, Score, Token
from lrengine.stop_ids import warn_of_other_stop_ids
from lrengine.text import TargetText, TextCodec, TextsBeingRead

if TYPE_CHECKING:  # no dependency: type checkers bring it along
    from typing_extensions import Unpack

logger = logging.getLogger("lrengine")
# The engine's own table is the one place where options are declared.
OPTIONS = frozenset(name for name, _, _ in _engine.option_table())


class Engine:
    """A model directory (docs/MODEL_DIRECTORY.md) in memory. Immutable: any number of threads may use one engine.

    Every method takes one text, a list of texts, or a list of id lists, and answers with a list. What an input gets
    does not depend on the other inputs of the call. A request that cannot be answered raises InvalidRequestError and
    leaves the engine usable. Computing releases the GIL. Ctrl-C works between generated tokens, between the rows of
    other calls, and where sources are read, between layers."""

    def __init__(self, native: NativeModel, source: TextCodec | None, target: TextCodec | None, template: str) -> None:
        self._native = native
        self._source = source
        self._target = target
        self._template = template
        fused = native.model_type == "layer_fusion"
        self._source_ids = encoder_of(source, "tokenizer.json", "source")
        self._target_ids = encoder_of(target, "llm/tokenizer.json" if fused else "tokenizer.json", "bare")

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], device: str = "auto", dtype: str = "auto", threads: int | None = None
    ) -> Engine:
        """Opens a model directory; nothing is fetched from anywhere.

        device: "cpu", "cuda", "cuda:1", ... or "auto": a GPU where there is one that works. dtype: what matrices are
        stored as while computing ("float32", "bfloat16", "float16", "int8", "int4"); "auto": as in the file. threads:
        None: as many as the process may use.
        Raises ModelFileError, UnsupportedModelError, DeviceError or OutOfMemoryError."""
        if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
            raise InvalidRequestError(f"threads: found {describe(threads)}, expected None or a positive integer")
        device = name_of(str(device), "device", '"auto", "cpu", "cuda" or "cuda:INDEX"')
        kept = None if str(dtype) == "auto" else name_of(str(dtype), "dtype", '"auto" or the name of a type')
        directory, encoded = _directory(path)
        if device != "cpu":
            preload_cublaslt()
        with TextsBeingRead(directory, threads != 1) as texts:
            native = _engine.load(encoded, device, kept, min(threads or 0, 2**31 - 1), logger.info)
            native.check_weights()  # beside the tokenizers, where another thread reads them
            source = texts.codec()
            target = texts.codec("llm") if native.model_type == "layer_fusion" else source
        config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        warn_of_other_stop_ids(directory, config)
        return cls(native, source, target, _prompt_template(config, directory))

    @property
    def device(self) -> str:
        return self._native.device

    @property
    def dtype(self) -> str:
        return self._native.dtype

    @property
    def model_type(self) -> str:
        """One of swcm, layer_fusion, layer_fusion_classifier."""
        return self._native.model_type

    @property
    def memory_bytes(self) -> int:
        """Bytes of weights, mapped or converted, without the buffers of requests: those come and go with each call. Of
        mapped word embeddings that are no output projection too, the process holds only what requests looked up."""
        return self._native.weight_bytes

    @property
    def kernel_launches(self) -> int:
        """Kernels that decode steps have started on this engine's GPU so far, by any engine of this process; 0 on the
        CPU. For benchmarks."""
        return self._native.kernel_launches

    @property
    def labels(self) -> list[str]:
        """A classifier's labels; none for models that generate."""
        return self._native.labels

    @overload
    def generate(
        self, inputs: Inputs, *, num_return_sequences: Literal[1] = 1, **options: Unpack[GenerateOptions]
    ) -> list[Generation]: ...

    @overload
    def generate(
        self, inputs: Inputs, *, num_return_sequences: Literal[2, 3, 4, 5, 6, 7, 8], **options: Unpack[GenerateOptions]
    ) -> list[list[Generation]]: ...

    @overload
    def generate(
        self, inputs: Inputs, *, num_return_sequences: int, **options: Unpack[GenerateOptions]
    ) -> list[Generation] | list[list[Generation]]: ...

    def generate(
        self,
        inputs: Inputs,
        *,
        prompts: Inputs | None = None,
        max_new_tokens: int = 256,
        min_new_tokens: int = 0,
        num_beams: int = 1,
        num_return_sequences: int = 1,
        length_penalty: float = 1.0,
        early_stopping: bool | str = False,
        repetition_penalty: float = 1.0,
        no_repeat_ngram_size: int = 0,
        do_sample: bool = False,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int | None = None,
        prefix: Inputs | Sequence[int] | None = None,
        stop: str | Sequence[str] | None = None,
        suppress_tokens: Sequence[int] | None = None,
    ) -> list[Generation] | list[list[Generation]]:
        """One Generation an input; with num_return_sequences > 1 a list of them an input, best first.

        Options mean what they mean in transformers. A row ends early where the model's positions end.
        prompts: for layer_fusion: what the LLM reads after the source, put into the model's `prompt_template`.
        prefix: text or ids that every target starts with; not part of the answer.
        stop: strings that end a row; the text is cut before them.
        seed: a row's random numbers come from the seed, its input, and its number among equal inputs of the call."""
        options = {name: value for name, value in locals().items() if name in OPTIONS}
        request = _Request(self, inputs, prompts, prefix, stop, options)
        while not request.session.done:
            request.session.step()
        answers = request.answers()
        # A validated number: one answer an input is not wrapped.
        return answers if num_return_sequences > 1 else [best for (best,) in answers]

    def stream(
        self,
        input: Inputs,  # noqa: A002
        *,
        prompts: Inputs | None = None,
        prefix: Inputs | Sequence[int] | None = None,
        stop: str | Sequence[str] | None = None,
        **options: Unpack[StreamOptions],
    ) -> Iterator[Token]:
        """The tokens of one input as they come; options as in generate(), without beams. Closing the iterator ends the
        request. The request is checked when stream() is called."""
        given: dict[str, Any] = {**options}
        for name in given:
            if name not in OPTIONS:
                raise TypeError(f"stream() got an unexpected keyword argument '{name}'")
        for name in ("num_beams", "num_return_sequences"):
            if given.get(name, 1) != 1:
                raise InvalidRequestError(f"{name}: found {given[name]!r}, expected 1: a stream is one row")
        request = _Request(self, input, prompts, prefix, stop, given)
        if len(request.prefixes) != 1:
            raise InvalidRequestError(f"input: found {len(request.prefixes)} inputs, expected one")
        return request.stream()

    def classify(
        self, inputs: Inputs, labels: Sequence[str] | None = None, *, prompts: Inputs | None = None
    ) -> list[Classification]:
        """A Classification an input.

        Classifiers: labels come from the model; `labels` keeps some of them and shares the probability out again.
        Generating models: softmax over the labels' log-likelihoods as targets, the end token included."""
        if self.labels:
            kept = self.labels if labels is None else label_list(labels)
            unknown = [label for label in kept if label not in self.labels]
            if unknown:
                raise InvalidRequestError(f"labels: found {unknown[0]!r}, expected some of {', '.join(self.labels)}")
            if prompts is not None:
                raise InvalidRequestError(f"prompts: {self.model_type} models take none")
            numbers = [self.labels.index(label) for label in kept]
            sources = rows(inputs, "inputs", self._source_ids)
            log_probs = self._in_pieces(lambda piece: self._native.classify(sources[piece]), sources)
            return [_classification(kept, row[numbers]) for row in log_probs]
        if labels is None:
            raise InvalidRequestError("labels: found none, expected some: the model has no labels of its own")
        names = label_list(labels)
        sources = rows(inputs, "inputs", self._source_ids)
        prompt_rows = self._prompts(prompts, len(sources))
        targets = [np.asarray(self._closed_ids(name), np.int32) for name in names]
        self._native.check_labels(sources, prompt_rows, targets)
        scores = self._score(
            [row for row in sources for _ in names],
            [row for row in prompt_rows for _ in names],
            targets * len(sources),
        )
        sums = np.asarray([score.logprob for score in scores]).reshape(len(sources), len(names))
        return [_classification(names, row) for row in sums]

    def score(self, inputs: Inputs, targets: Inputs, *, prompts: Inputs | None = None) -> list[Score]:
        """Log-probability of one target an input. A target given as text is scored with the end token that closes it,
        as in training; one given as ids exactly as it is."""
        sources = rows(inputs, "inputs", self._source_ids)
        return self._score(
            sources, self._prompts(prompts, len(sources)), rows(targets, "targets", lambda text: self._closed_ids(text))
        )

    def encode(self, inputs: Inputs, output: str = "fused") -> list[NDArray[np.float32]]:
        """The encoder's states an input: "last" or "fused" (mixed over layers) [S, D], "all" [L, S, D], or the mixer's
        "weights" [S, L]. SWCM models have no mixer: "fused" is "last"."""
        output = name_of(output, "output", '"last", "fused", "all" or "weights"')
        sources = rows(inputs, "inputs", self._source_ids)
        return self._in_pieces(lambda piece: self._native.encode(sources[piece], output), sources)

    def pieces(self, text: str) -> list[str]:
        """The tokenizer's names of the tokens that `text` becomes, in the order of encode()'s rows."""
        if not isinstance(text, str):
            raise InvalidRequestError(f"text: found {describe(text)}, expected text")
        ids = self._source_ids(text)
        assert self._source is not None  # or _source_ids has raised
        return self._source.pieces(ids)

    def _prompts(self, prompts: Any, count: int) -> list[Ids]:
        if prompts is not None and self.model_type != "layer_fusion":
            raise InvalidRequestError(f"prompts: {self.model_type} models take none")
        if prompts is None:
            if self._template == "{prompt}" or self.model_type != "layer_fusion":
                return [np.zeros(0, np.int32)] * count
            prompts = ""
        return one_each(prompts, "prompts", count, self._prompt_ids)

    def _prompt_ids(self, prompt: str) -> list[int]:
        return self._target_ids(self._template.replace("{prompt}", prompt))

    def _closed_ids(self, text: str) -> list[int]:
        return [*self._target_ids(text), *self._native.end_tokens[:1]]

    def _score(self, sources: list[Ids], prompts: list[Ids], targets: list[Ids]) -> list[Score]:
        if len(sources) != len(targets):
            raise InvalidRequestError(f"targets: found {len(targets)}, expected one for each of {len(sources)} inputs")
        log_probs = self._in_pieces(
            lambda piece: self._native.score(sources[piece], prompts[piece], targets[piece]), sources, prompts, targets
        )
        return [Score(float(row.sum(dtype=np.float64)), [float(value) for value in row]) for row in log_probs]

    def _in_pieces(self, call: Callable[[slice], list[Answer]], sources: list[Ids], *others: list[Ids]) -> list[Answer]:
        """`call` for the rows, interruptible. If a source will be refused, for all of them at once: the native call
        checks every row before it computes, so nobody waits for the piece that holds the bad one."""
        longest, vocabulary = self._native.max_source_length or INT32.max, self._native.vocab_size
        if all(len(row) <= longest and not ((row < 0) | (row >= vocabulary)).any() for row in sources):
            return in_pieces(call, lengths(sources, *others))
        return call(slice(None))


def _directory(path: str | os.PathLike[str]) -> tuple[Path, bytes]:
    """`path`, and as the file system has it. ModelFileError for what no file can be called."""
    name = os.fsdecode(path)
    try:
        encoded = os.fsencode(name)
    except UnicodeEncodeError:
        encoded = b"\0"
    if b"\0" in encoded:
        raise ModelFileError(f"{name!r}: found a name that no file has, expected a model directory")
    return Path(name), encoded


def _prompt_template(config: dict[str, Any], directory: Path) -> str:
    template = config.get("prompt_template")
    if template is None:
        return "{prompt}"
    if not isinstance(template, str) or "{prompt}" not in template:
        expected = "null or text with {prompt} in it"
        raise ModelFileError(f"{directory / 'config.json'}: prompt_template is {template!r}, expected {expected}")
    return template


def _classification(labels: Sequence[str], log_scores: NDArray[Any]) -> Classification:
    scores = np.asarray(log_scores, np.float64)
    probabilities = np.exp(scores - scores.max())
    probabilities /= probabilities.sum()
    return Classification(labels[int(scores.argmax())], dict(zip(labels, probabilities.tolist(), strict=True)))


class _Request:
    """One generate or stream call: its session and what turns its tokens into text."""

    def __init__(
        self, engine: Engine, inputs: Any, prompts: Any, prefix: Any, stop: Any, options: dict[str, Any]
    ) -> None:
        sources = rows(inputs, "inputs", engine._source_ids)
        count = len(sources)
        self.prefixes = (
            [np.zeros(0, np.int32)] * count if prefix is None else one_each(prefix, "prefix", count, engine._target_ids)
        )
        strings = stop_strings(stop)
        if strings and engine._target is None:
            raise InvalidRequestError("stop: the model directory has no tokenizer to look for text with")
        codec = engine._target
        self.texts = None if codec is None else [TargetText(codec, row.tolist(), strings) for row in self.prefixes]
        self.session = engine._native.start(
            sources, engine._prompts(prompts, count), self.prefixes, options, self._stopped if strings else None
        )

    def _stopped(self, source: int, tokens: Ids) -> bool:
        assert self.texts is not None
        return self.texts[source].stopped(tokens.tolist())

    def answers(self) -> list[list[Generation]]:
        return [
            [
                Generation(
                    None if self.texts is None else self.texts[source].cut(tokens.tolist()),
                    tokens.tolist(),
                    float(log_probs.sum(dtype=np.float64)),
                    reason,
                )
                for tokens, log_probs, reason in hypotheses
            ]
            for source, hypotheses in enumerate(self.session.results())
        ]

    def stream(self) -> Iterator[Token]:
        sent, emitted = 0, ""
        try:
            while not self.session.done:
                self.session.step()
                tokens, log_probs, _ = self.session.results()[0][0]
                ids = tokens.tolist()
                if self.texts is None:
                    yield from (Token(None, ids[index], float(log_probs[index])) for index in range(sent, len(ids)))
                    sent = len(ids)
                    continue
                text = self.texts[0].cut(ids)
                certain = text.startswith(emitted) and self.texts[0].certain(ids)
                if not certain and not self.session.done:
                    continue
                # Tokens that waited for this one have no text of their own.
                for index in range(sent, len(ids)):
                    new = text[len(emitted) :] if index == len(ids) - 1 else ""
                    yield Token(new, ids[index], float(log_probs[index]))
                sent, emitted = len(ids), text
        finally:
            self.session.cancel()
