"""Trimmed tokenizers cut texts as the whole ones did, wherever all pieces of a text are kept."""

import json
import random

import pytest
import small_tokenizers
from tokenizers import Tokenizer
from trim_support import fuzzed, same_cuts

from lrengine.errors import ModelFileError, UnsupportedModelError
from lrengine.trim import unigram
from lrengine.trim.tokenizer_file import TokenizerFile, tokenizer_of


def trimmed(tmp_path, tokenizer, wanted):
    """(the file, the tokenizer with the ids `wanted` and what they need)."""
    small_tokenizers.save(tokenizer, tmp_path)
    file = TokenizerFile(tmp_path)
    rows = file.rows(file.closed(wanted), [])
    return file, rows, tokenizer_of(file.rewritten(rows), file.path)


def random_unigram(generator):
    """A vocabulary of random pieces over few letters, scores with many ties and, sometimes, far apart."""
    scores = generator.choice([[-1.0, -2.0, -3.0, -4.0], [generator.uniform(-20, -1) for _ in range(40)]])
    pieces = sorted({"".join(generator.choices("abc", k=generator.randint(1, 5))) for _ in range(40)} | {"\u2581"})
    vocab = [["<s>", 0.0], ["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0]]
    vocab += [[piece, generator.choice(scores)] for piece in pieces]
    document = json.loads(small_tokenizers.unigram().to_str())
    document["model"]["vocab"] = vocab
    return Tokenizer.from_str(json.dumps(document))


@pytest.mark.parametrize("seed", range(25))
def test_unigram_cuts_are_kept_in_random_vocabularies(tmp_path, seed):
    """Any subset with what is required; characters that it lacks, or that no piece has, are <unk>."""
    generator = random.Random(seed)
    whole = random_unigram(generator)
    texts = ["".join(generator.choices("abcd ", k=generator.randint(1, 14))) for _ in range(400)]
    small_tokenizers.save(whole, tmp_path)
    file = TokenizerFile(tmp_path)
    wanted = {index for text in texts[:4] for index in whole.encode(text).ids}
    wanted |= {index for index in range(4, whole.get_vocab_size()) if generator.random() < 0.2}
    rows = file.rows({0, 1, 2, 3} | wanted | unigram.required(file.model), [])
    after = tokenizer_of(file.rewritten(rows), file.path)
    known, unknown = set(after.get_vocab()), whole.token_to_id("<unk>")
    compared = 0
    for text in texts:
        cut = whole.encode(text)
        if {token for token, index in zip(cut.tokens, cut.ids, strict=True) if index != unknown} <= known:
            assert after.encode(text).tokens == cut.tokens, text
            compared += 1
    assert compared > 20


def test_without_the_smallest_score_unknown_characters_become_cheap(tmp_path):
    """Why `required` keeps a piece of that score: <unk>'s own hangs on it, and "d" is <unk> once it is gone."""
    scores = {"a": -10.0, "b": -10.0, "cd": -10.0, "abc": -5.0, "d": -26.0, "z": -40.0}
    document = json.loads(small_tokenizers.unigram().to_str())
    specials = [["<s>", 0.0], ["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0], ["\u2581", -1.0]]
    document["model"]["vocab"] = [*specials, *([piece, score] for piece, score in scores.items())]
    whole = Tokenizer.from_str(json.dumps(document))
    cut = ["<s>", "\u2581", "a", "b", "cd", "</s>"]
    assert whole.encode("abcd").tokens == cut
    names = [piece for piece, _ in document["model"]["vocab"]]
    assert unigram.required(document["model"]) == {3, names.index("z")}
    for left_out, same in (({"d"}, True), ({"d", "z"}, False)):
        kept = [index for index, name in enumerate(names) if name not in left_out]
        fewer = {**document, "model": unigram.rewritten(document["model"], kept, [])}
        assert (tokenizer_of(fewer, tmp_path).encode("abcd").tokens == cut) is same


def test_unigram_cuts_are_kept_on_fuzzed_texts(tmp_path):
    whole = small_tokenizers.unigram()
    texts = fuzzed(1500, 1)
    wanted = {index for text in texts[:12] for index in whole.encode(text).ids}
    _, rows, after = trimmed(tmp_path, whole, wanted)
    assert len(rows) < whole.get_vocab_size() * 0.7
    assert same_cuts(whole, after, texts) > 100


@pytest.mark.parametrize("ignore_merges", [False, True])
def test_byte_level_cuts_are_kept_on_fuzzed_texts(tmp_path, ignore_merges):
    document = json.loads(bigger_byte_level().to_str())
    document["model"]["ignore_merges"] = ignore_merges
    whole = Tokenizer.from_str(json.dumps(document))
    texts = fuzzed(1500, 2)
    wanted = {index for text in texts[:6] for index in whole.encode(text).ids}
    file, rows, after = trimmed(tmp_path, whole, wanted)
    assert len(rows) < whole.get_vocab_size()
    assert same_cuts(whole, after, texts) > 100
    assert len(file.rewritten(rows)["model"]["merges"]) < len(document["model"]["merges"])


def test_pieces_on_the_way_to_a_kept_one_are_kept(tmp_path):
    """ "abcd" is reached through "ab" and "cd" alone: without them the word would fall apart."""
    names = ["<unk>", "a", "b", "c", "d", "ab", "cd", "abcd", "bc"]
    model = {"type": "BPE", "vocab": {name: index for index, name in enumerate(names)}, "unk_token": "<unk>",
             "merges": [["a", "b"], ["c", "d"], ["b", "c"], ["ab", "cd"]]}  # fmt: skip
    whole = Tokenizer.from_str(json.dumps({"version": "1.0", "added_tokens": [], "model": model}))
    file, rows, after = trimmed(tmp_path, whole, [names.index("abcd")])
    assert [names[index] for index in rows.inside] == ["<unk>", "a", "b", "c", "d", "ab", "cd", "abcd"]
    assert file.rewritten(rows)["model"]["merges"] == [["a", "b"], ["c", "d"], ["ab", "cd"]]
    assert after.encode("abcdabcd").tokens == ["abcd", "abcd"]


def test_added_tokens_move_together_with_their_ids(tmp_path):
    whole = small_tokenizers.unigram()
    whole.add_special_tokens(["<mask>", "<2ug>"])
    _, rows, after = trimmed(tmp_path, whole, whole.encode("the lazy dog").ids)
    assert rows.outside == [whole.token_to_id("<mask>"), whole.token_to_id("<2ug>")]
    assert after.token_to_id("<2ug>") == len(rows) - 1
    text = "<2ug>the lazy dog"
    assert after.encode(text).tokens == whole.encode(text).tokens == ["<s>", "<2ug>", *after.encode(text).tokens[2:]]


def bigger_byte_level():
    """With merges enough to leave some out."""
    from tokenizers import decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=["<pad>", "<s>", "</s>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(small_tokenizers.TEXTS * 3, trainer)
    return tokenizer


def test_other_tokenizers_are_refused(tmp_path):
    with pytest.raises(ModelFileError, match="has no tokenizer.json"):
        TokenizerFile(tmp_path)
    cases = [
        ({"type": "WordPiece", "vocab": {"[UNK]": 0}, "unk_token": "[UNK]"}, "WordPiece tokenizer cannot be trimmed"),
        ({"type": "BPE", "vocab": {"a": 0}, "merges": [], "end_of_word_suffix": "</w>"}, "end_of_word_suffix"),
    ]
    for model, message in cases:
        (tmp_path / "tokenizer.json").write_text(json.dumps({"version": "1.0", "added_tokens": [], "model": model}))
        with pytest.raises(UnsupportedModelError, match=message):
            TokenizerFile(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"model": {"type": "Unigram"}}')
    with pytest.raises(ModelFileError):
        TokenizerFile(tmp_path)
