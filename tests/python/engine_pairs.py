"""A model twice: in PyTorch, and in the engine from the directory that PyTorch saved. The engine gets ragged batches;
PyTorch answers one input at a time, which no padding can disturb."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from lrengine import Engine, Generation

# Options, one at a time, that change what is chosen; each with and without beams unless it needs them.
ANY_SEARCH: tuple[dict[str, Any], ...] = (
    {"repetition_penalty": 1.7},
    {"repetition_penalty": 0.8},
    {"no_repeat_ngram_size": 1},
    {"no_repeat_ngram_size": 2},
    {"min_new_tokens": 7},
    {"suppress_tokens": [7, 19, 130, 200]},
    {"repetition_penalty": 1.3, "no_repeat_ngram_size": 3, "min_new_tokens": 4, "suppress_tokens": [5]},
)
BEAMS_ONLY: tuple[dict[str, Any], ...] = (
    {"length_penalty": 0.0},
    {"length_penalty": -1.5},
    {"length_penalty": 2.5},
    {"early_stopping": True},
    {"early_stopping": "never"},
    {"early_stopping": "never", "length_penalty": 0.3},
    {"early_stopping": True, "length_penalty": 1.8, "num_return_sequences": 2},
    {"num_return_sequences": 3},
)


class Pair:
    """`sources`: rows of ids for both; `prompts`: LLM ids, one row a source, for layer_fusion."""

    def __init__(
        self,
        model: PreTrainedModel,
        directory: Path,
        sources: Sequence[list[int]],
        prompts: Sequence[list[int]] | None = None,
        **engine_options: Any,
    ) -> None:
        self.model = model
        model.save_pretrained(directory)
        self.engine = Engine.load(directory, **{"threads": 1, **engine_options})
        self.sources = [list(source) for source in sources]
        self.prompts = prompts

    def engine_answers(self, **options: Any) -> list[list[Generation]]:
        answers = self.engine.generate(self.sources, prompts=self.prompts, **options)
        return [answer if isinstance(answer, list) else [answer] for answer in answers]

    def torch_answers(self, **options: Any) -> list[list[tuple[list[int], bool, float | None]]]:
        """(tokens without the end token, whether there was one, beam score) of every answer."""
        eos = self.model.config.eos_token_id
        ends = set(eos) if isinstance(eos, list) else {eos}
        answers = []
        for number, source in enumerate(self.sources):
            arguments: dict[str, Any] = {"input_ids": torch.tensor([source])}
            if self.prompts is not None and self.prompts[number]:
                arguments["prompt_ids"] = torch.tensor([self.prompts[number]])
            result = self.model.generate(
                **arguments, do_sample=False, return_dict_in_generate=True, output_scores=True, **options
            )
            rows = result.sequences.tolist()
            if self.engine.model_type == "swcm":
                rows = [row[1:] for row in rows]
            scores = [None] * len(rows) if result.get("sequences_scores") is None else result.sequences_scores.tolist()
            cut = [next((at for at, token in enumerate(row) if token in ends), None) for row in rows]
            answers.append(
                [(row[:end], end is not None, score) for row, end, score in zip(rows, cut, scores, strict=True)]
            )
        return answers

    def check(self, max_new_tokens: int = 10, **options: Any) -> None:
        """Equal tokens, equal ends; equal beam scores where the engine's score is what beams are ranked by."""
        options["max_new_tokens"] = max_new_tokens
        ranked_by_score = not options.keys() & {"repetition_penalty"}
        expected, found = self.torch_answers(**options), self.engine_answers(**options)
        for source, (theirs, ours) in enumerate(zip(expected, found, strict=True)):
            assert [tokens for tokens, _, _ in theirs] == [answer.tokens for answer in ours], (source, options)
            for (tokens, ended, score), answer in zip(theirs, ours, strict=True):
                assert answer.finish_reason == ("stop" if ended else "length"), (source, options)
                if score is not None and ranked_by_score:
                    length = len(tokens) + ended
                    ours_ranked = answer.score / length ** options.get("length_penalty", 1.0)
                    assert abs(ours_ranked - score) < 1e-4 * max(1.0, abs(score)), (source, options)


def check_every_option(pair: Pair, beams: Sequence[int] = (1, 2, 3, 4, 5)) -> None:
    """Every option, alone, for each number of beams."""
    for num_beams in beams:
        for options in (*ANY_SEARCH, *(BEAMS_ONLY if num_beams > 1 else ())):
            if options.get("num_return_sequences", 1) <= num_beams:
                pair.check(num_beams=num_beams, **options)
