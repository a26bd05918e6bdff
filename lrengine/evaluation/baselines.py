"""What a model has to beat: functions from training examples and sources to predictions; none sees a reference.

majority    the most frequent label of the training data
tfidf       TF-IDF of character n-grams (1 to 4) and logistic regression, on the training texts as they are
linear      logistic regression on the mean of the encoder's last layer over the tokens
copy        the source itself
nearest     translation memory: the target of the training source of the same direction that is nearest in TF-IDF
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from lrengine.data.examples import Example

NAMES = {
    "classification": ("majority", "tfidf", "linear"),
    "translation": ("copy", "nearest"),
    "generation": ("majority", "copy", "nearest"),
}
ORDERS = range(1, 5)
INVERSE_REGULARISATION = 10.0  # C of the usual libraries: loss summed over examples, 1 / (2 C) of the squared weights
NEAREST_BATCH = 256

Embed = Callable[[Sequence[str]], Tensor]


def majority(train: Sequence[Example], wanted: Sequence[Example]) -> list[str]:
    counts = Counter(str(example.target) for example in train)
    best = min(counts, key=lambda label: (-counts[label], label))
    return [best] * len(wanted)


def copy_source(train: Sequence[Example], wanted: Sequence[Example]) -> list[str]:
    return [example.source for example in wanted]


def tfidf_classifier(train: Sequence[Example], wanted: Sequence[Example]) -> list[str]:
    features = CharacterTfidf([example.source for example in train])
    return _classified(train, features(_sources(train)), features(_sources(wanted)))


def linear_probe(train: Sequence[Example], wanted: Sequence[Example], embed: Embed) -> list[str]:
    """embed: texts -> [n, D]. Columns are scaled to the training data's mean and deviation, which the regularisation
    needs; the languages it is tried on are not looked at."""
    known, asked = embed(_sources(train)), embed(_sources(wanted))
    mean, deviation = known.mean(0), known.std(0).clamp_min(1e-6)
    return _classified(train, (known - mean) / deviation, (asked - mean) / deviation)


def nearest_translation(train: Sequence[Example], wanted: Sequence[Example]) -> list[str]:
    """Ties go to the training example that comes first; a direction without training data gives ''."""
    answers = [""] * len(wanted)
    for task in dict.fromkeys(example.task for example in wanted):
        memory = [example for example in train if example.task == task and example.target is not None]
        places = [place for place, example in enumerate(wanted) if example.task == task]
        if not memory:
            continue
        features = CharacterTfidf(_sources(memory))
        stored = features(_sources(memory))
        for start in range(0, len(places), NEAREST_BATCH):
            chosen = places[start : start + NEAREST_BATCH]
            asked = features([wanted[place].source for place in chosen]).to_dense()
            for place, best in zip(chosen, torch.sparse.mm(stored, asked.T).argmax(0).tolist(), strict=True):
                answers[place] = str(memory[best].target)
    return answers


class CharacterTfidf:
    """Rows of unit length over the character n-grams of `texts` (lower case, a space at each end):
    (1 + log tf) (1 + log((1 + n) / (1 + df))). n-grams that `texts` have not are left out."""

    def __init__(self, texts: Sequence[str]) -> None:
        documents: Counter[str] = Counter()
        for text in texts:
            documents.update(set(_grams(text)))
        self.columns = {gram: column for column, gram in enumerate(sorted(documents))}
        self.weights = {gram: 1 + math.log((1 + len(texts)) / (1 + documents[gram])) for gram in self.columns}

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Sparse float32 [n, columns]."""
        rows: list[int] = []
        columns: list[int] = []
        values: list[float] = []
        for row, text in enumerate(texts):
            counts = Counter(gram for gram in _grams(text) if gram in self.columns)
            cells = {self.columns[gram]: (1 + math.log(n)) * self.weights[gram] for gram, n in counts.items()}
            length = math.sqrt(sum(value * value for value in cells.values())) or 1.0
            rows += [row] * len(cells)
            columns += cells
            values += [value / length for value in cells.values()]
        size = (len(texts), len(self.columns))
        places = torch.tensor([rows, columns])
        return torch.sparse_coo_tensor(places, torch.tensor(values), size, check_invariants=True).coalesce()


def logistic_regression(features: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Weights [columns + 1, classes], the bias last, by L-BFGS from zero. features [n, columns], dense or sparse."""
    weight = torch.zeros(features.shape[1], classes, requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        penalty = weight.square().sum() / (2 * INVERSE_REGULARISATION)
        value = cross_entropy(features @ weight + bias, labels, reduction="sum") + penalty
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[arg-type]
    return torch.cat([weight.detach(), bias.detach()[None]])


def _classified(train: Sequence[Example], known: Tensor, asked: Tensor) -> list[str]:
    names = sorted({str(example.target) for example in train})
    labels = torch.tensor([names.index(str(example.target)) for example in train])
    weight = logistic_regression(known, labels, len(names))
    chosen = (asked @ weight[:-1] + weight[-1]).argmax(1)
    return [names[index] for index in chosen.tolist()]


def _sources(examples: Sequence[Example]) -> list[str]:
    return [example.source for example in examples]


def _grams(text: str) -> list[str]:
    padded = f" {text.lower()} "
    return [padded[at : at + order] for order in ORDERS for at in range(len(padded) - order + 1)]
