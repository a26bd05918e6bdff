"""ROUGE-L by hand, in scripts that the usual tokenizer deletes."""

import json
import re

import pytest
from training_support import UDHR

from lrengine.evaluation.rouge import longest_common_subsequence, rouge_l, tokenize


def english_only_tokens(text):
    """What the default tokenizer of the `rouge-score` package does (rouge_score/tokenize.py, DefaultTokenizer without
    stemming): lower case, then every character but ASCII letters and digits is a separator."""
    return [token for token in re.sub(r"[^a-z0-9]+", " ", text.lower()).split() if re.fullmatch(r"[a-z0-9]+", token)]


@pytest.mark.parametrize("language", ["bo", "ug", "zh", "kk", "mn", "si", "ta", "hi"])
def test_the_usual_tokenizer_deletes_these_scripts_and_ours_does_not(language):
    with open(UDHR, encoding="utf-8") as stream:  # noqa: PTH123
        sections = [json.loads(line) for line in stream]
    texts = [text for section in sections for text in section.get(language) or []]
    assert len(texts) > 20
    letters = sum(character.isalpha() for text in texts for character in text)
    kept = sum(len(token) for text in texts for token in english_only_tokens(text))
    assert kept < 0.01 * letters, "so every score would be 0"
    ours = sum(character.isalpha() for text in texts for token in tokenize(text) for character in token)
    assert ours >= 0.99 * letters
    assert rouge_l(texts[0], texts[0]).f1 == 1.0
    assert rouge_l(texts[0], texts[5]).f1 < 0.6


def test_tokens_of_each_script():
    assert tokenize("The cat's 2 hats, don't!") == ["the", "cat", "s", "2", "hats", "don", "t"]
    assert tokenize("世界人权宣言。") == ["世", "界", "人", "权", "宣", "言"]
    assert tokenize("ABC公司2024年") == ["abc", "公", "司", "2024", "年"]
    assert tokenize("བཀྲ་ཤིས་བདེ་ལེགས།") == ["བཀྲ", "ཤིས", "བདེ", "ལེགས"]
    assert tokenize("ياخشىمۇسىز، دۇنيا؟") == ["ياخشىمۇسىز", "دۇنيا"]
    assert tokenize("Қазақстан Республикасы") == ["қазақстан", "республикасы"]
    assert tokenize("தமிழ் மொழி") == ["தமிழ்", "மொழி"], "vowel signs belong to their word"
    assert tokenize("ශ්\u200dරී ලංකා") == ["ශ්\u200dරී", "ලංකා"], "a joiner does not cut a word"
    assert tokenize("ＡＢ １２") == ["ab", "12"], "NFKC"
    assert tokenize(" .,!?། ") == []


def test_rouge_l_by_hand():
    # common: "the cat on mat" in order = 4 of 5 and of 6 tokens
    score = rouge_l("the cat on a mat", "the cat sat on the mat")
    assert (score.precision, score.recall) == (4 / 5, 4 / 6)
    assert score.f1 == pytest.approx(2 * 0.8 * (4 / 6) / (0.8 + 4 / 6))
    # 世 界 和 平 against 和 平 世 界: the longest common subsequence has 2 characters
    assert rouge_l("世界和平", "和平世界").f1 == pytest.approx(0.5)
    assert rouge_l("བཀྲ་ཤིས་ལེགས", "བཀྲ་ཤིས་བདེ་ལེགས").f1 == pytest.approx(2 * 3 / (3 + 4))
    assert rouge_l("", "x").f1 == rouge_l("x", "").f1 == rouge_l("a", "b").f1 == 0.0


def test_longest_common_subsequence():
    assert longest_common_subsequence("AGGTAB", "GXTXAYB") == 4
    assert longest_common_subsequence("", "abc") == 0
    assert longest_common_subsequence("abc", "abc") == 3
