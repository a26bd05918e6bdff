"""Text to ids: limits, special tokens, language tags, noise; and batches."""

import numpy as np
import pytest
import torch

from lrengine.data.dataset import Collator, FixedDataset, PlannedDataset
from lrengine.data.denoising import NoiseConfig
from lrengine.data.examples import Example
from lrengine.data.features import ClassifierFeatures, FusionFeatures, Limits, SwcmFeatures
from lrengine.data.tokenization import TextEncoder, load_tokenizer, save_tokenizer, train_tokenizer
from lrengine.errors import DataError

WORDS = "red green blue black white one two three four five six seven eight nine سالام دۇنيا 你好 世界".split()  # noqa: SIM905
TEXTS = [" ".join(np.random.default_rng(seed).choice(WORDS, 8)) for seed in range(300)]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, 200, ["<2ug>"])


def rng():
    return np.random.default_rng(0)


def test_a_trained_tokenizer_has_xlm_rs_special_tokens_and_survives_saving(tokenizer, tmp_path):
    assert tokenizer.convert_tokens_to_ids(["<s>", "<pad>", "</s>", "<unk>"]) == [0, 1, 2, 3]
    assert len(tokenizer) <= 200 and tokenizer.mask_token_id == len(tokenizer) - 2
    save_tokenizer(tokenizer, tmp_path)
    loaded = load_tokenizer(str(tmp_path))
    text = "red  GREEN سالام 你好"
    assert loaded(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert loaded.mask_token_id == tokenizer.mask_token_id
    assert (tmp_path / "tokenizer.json").is_file()
    # the class name that both supported versions of transformers know
    assert '"PreTrainedTokenizerFast"' in (tmp_path / "tokenizer_config.json").read_text()


def test_a_vocabulary_without_room_for_the_characters_is_a_data_error():
    with pytest.raises(DataError, match=r"vocab_size 10: .* \(the texts have \d+ different ones\)"):
        train_tokenizer(TEXTS, 10)


def test_a_missing_tokenizer_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match="no tokenizer could be loaded"):
        load_tokenizer(str(tmp_path))


def test_special_tokens_are_found_and_lengths_kept(tokenizer):
    text = TextEncoder.of(tokenizer)
    assert (text.before, text.after) == ([0], [2])
    whole = text.source("red green blue", 100)
    assert whole == tokenizer("red green blue")["input_ids"]
    cut = text.source("red green blue", len(whole) - 1)
    assert len(cut) == len(whole) - 1 and cut[0] == 0 and cut[-1] == 2
    assert text.target("red green", 2, 100)[-1] == 2
    assert len(text.target("red green blue black white", 2, 3)) == 3


def make_swcm(tokenizer, prefixes, mask_ratio=0.35):
    return SwcmFeatures(tokenizer, 2, Limits(40, 40), NoiseConfig(mask_ratio=mask_ratio), prefixes)


@pytest.mark.parametrize("tag", ["<2ug> ", "to uyghur: "])
def test_translation_and_denoising_carry_the_same_tag_which_is_never_masked(tokenizer, tag):
    make = make_swcm(tokenizer, {"ug": tag})
    tag_ids = TextEncoder.of(tokenizer).bare(tag.rstrip())
    translated = make(Example("red", "سالام", "en-ug", "translation", "en", "ug"), rng())
    assert translated["input_ids"] == tokenizer(tag + "red")["input_ids"]
    assert translated["input_ids"][1 : 1 + len(tag_ids)] == tag_ids
    other = make(Example("سالام", "red", "ug-en", "translation", "ug", "en"), rng())
    assert other["input_ids"] == tokenizer("سالام")["input_ids"]
    mono = Example("سالام دۇنيا red green blue black", None, "ug", "denoising", "ug", "ug")
    for seed in range(50):
        noised = make(mono, np.random.default_rng(seed))["input_ids"]
        assert noised[1 : 1 + len(tag_ids)] == tag_ids
    clean = make_swcm(tokenizer, {"ug": tag}, mask_ratio=0.0)(mono, rng())
    assert clean["input_ids"] == tokenizer(tag + mono.source)["input_ids"], "as at inference"


def test_denoising_hides_from_the_source_and_keeps_the_whole_target(tokenizer):
    example = Example("One two. Three four five.", None, "en", "denoising", "en", "en")
    features = make_swcm(tokenizer, {})(example, rng())
    assert tokenizer.mask_token_id in features["input_ids"]
    assert features["labels"] == TextEncoder.of(tokenizer).target(example.source, 2, 40)
    assert len(features["input_ids"]) <= 40


def test_denoising_without_a_mask_token_is_an_error(tokenizer):
    make = make_swcm(tokenizer, {})
    make.mask_id = None
    with pytest.raises(DataError, match="mask token"):
        make(Example("red", None, "en", "denoising"), rng())


def test_fusion_features_have_no_special_tokens_on_the_llms_side(tokenizer):
    make = FusionFeatures(tokenizer, tokenizer, 2, Limits(40, 10, 6), "[{prompt}]")
    features = make(Example("red", "blue", "t", "task", prompt="green"), rng())
    bare = TextEncoder.of(tokenizer).bare
    assert features["input_ids"] == tokenizer("red")["input_ids"]
    assert features["prompt_ids"] == bare("[green]")[:6]
    assert features["labels"] == [*bare("blue"), 2]
    no_template = FusionFeatures(tokenizer, tokenizer, 2, Limits(40, 10, 6), None)
    assert no_template(Example("red", "blue", "t", "task"), rng())["prompt_ids"] == []


def test_an_unknown_label_names_its_place(tokenizer):
    make = ClassifierFeatures(tokenizer, Limits(40, 0), {"animals": 0, "food": 1})
    assert make(Example("red", "food", "en", "labels"), rng())["labels"] == 1
    with pytest.raises(DataError, match=r"a\.jsonl:7: label 'foods' .* did you mean 'food'"):
        make(Example("red", "foods", "en", "labels", place="a.jsonl:7"), rng())


def test_batches_are_padded_on_the_right_with_masks():
    batch = Collator(pad_id=1, prompt_pad_id=9)(
        [
            {"input_ids": [0, 5, 2], "labels": [7, 2], "prompt_ids": []},
            {"input_ids": [0, 2], "labels": [2], "prompt_ids": [4]},
        ]
    )
    assert batch["input_ids"].tolist() == [[0, 5, 2], [0, 2, 1]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch["labels"].tolist() == [[7, 2], [2, -100]]
    assert batch["prompt_ids"].tolist() == [[9], [4]]
    assert batch["prompt_attention_mask"].tolist() == [[0], [1]]
    assert Collator(1)([{"input_ids": [0], "labels": 3}])["labels"].tolist() == [3]


def test_entries_are_the_same_whoever_asks_and_noise_differs_between_visits(tokenizer):
    examples = [Example(text, None, "en", "denoising") for text in TEXTS[:5]]
    make = make_swcm(tokenizer, {})
    one, two = (PlannedDataset(examples, {"en": 1.0}, 20, make, seed=3, batch_size=4) for _ in range(2))
    assert [one[index] for index in range(20)] == [two[index] for index in reversed(range(20))][::-1]
    visits = [one[index]["input_ids"] for index in range(20) if one.plan[index] == 0]
    assert len(visits) == 4 and len({tuple(ids) for ids in visits}) > 1
    fixed = FixedDataset(examples, make, seed=3)
    assert fixed[2] == fixed[2] and len(fixed) == 5
    assert torch.is_tensor(Collator(1)([fixed[0], fixed[1]])["labels"])
