"""From rows to examples: columns, filters, directions, checks, and what the report says about them."""

import pytest
from training_support import UDHR, UI, write_lines

from lrengine.data import DataReport, TextNeeds, chunk_documents, load_examples
from lrengine.data.scripts import expected_share, script_of
from lrengine.data.sentences import split_sentences
from lrengine.data.sources import SourceConfig
from lrengine.errors import DataError


def load(*sources, needs=None, report=None):
    return load_examples(list(sources), needs or TextNeeds(), report or DataReport(), "train")


def test_a_wide_file_becomes_the_chosen_directions():
    source = SourceConfig("parallel", path=UI, languages=["zh", "ug", "kk"], pivot="zh", where={"split": "dev"})
    tasks = {example.task for example in load(source)}
    assert tasks == {"zh-ug", "ug-zh", "zh-kk", "kk-zh"}
    source = SourceConfig("parallel", path=UI, columns={"uig": "ug", "zh": "zh"}, directions=["uig-zh"])
    examples = load(source)
    assert {(example.source_language, example.target_language) for example in examples} == {("uig", "zh")}
    assert all(expected_share(example.target, "zh") != 0 for example in examples[:50])


def test_gaps_in_a_wide_file_are_counted_not_errors():
    report = DataReport()
    source = SourceConfig("parallel", path=UI, languages=["zh", "si"], directions=["zh-si"])
    examples = load(source, report=report)
    assert report.sources[0].dropped["no translation"] > 0
    assert len(examples) + sum(report.sources[0].dropped.values()) == report.sources[0].rows


def test_lists_of_paragraphs_are_paired_only_if_they_agree(tmp_path):
    rows = [{"zh": ["一", "二"], "ug": ["بىر", "ئىككى"]}, {"zh": ["三"], "ug": ["ئۈچ", "تۆت"]}]
    report = DataReport()
    path = write_lines(tmp_path / "a.jsonl", rows)
    examples = load(SourceConfig("parallel", path=path, languages=["zh", "ug"], directions=["zh-ug"]), report=report)
    assert [(example.source, example.target) for example in examples] == [("一", "بىر"), ("二", "ئىككى")]
    assert report.sources[0].dropped == {"lists of different lengths": 1}


def test_templates_values_and_prompts(tmp_path):
    rows = [{"premise": "A", "hypothesis": "B", "label": 2, "ask": "why"}]
    source = SourceConfig(
        "pairs", path=write_lines(tmp_path / "a.jsonl", rows), 
        source="Premise: {premise} {{x}} Hypothesis: {hypothesis}",
        target="label", values={"2": "Contradiction"}, prompt="Say: {ask}", name="xnli",
    )  # fmt: skip
    (example,) = load(source)
    assert example.source == "Premise: A {x} Hypothesis: B"
    assert (example.target, example.prompt, example.task) == ("Contradiction", "Say: why", "xnli")


def test_rows_of_too_few_words_are_left_out(tmp_path):
    texts = {"open the file": "打开文件", " close  it ": "关闭", "save it now": "保存"}
    rows = [{"en": english, "zh": chinese} for english, chinese in texts.items()]
    path = write_lines(tmp_path / "a.jsonl", rows)
    source = SourceConfig("parallel", path=path, languages=["zh", "en"], directions=["zh-en"], min_words={"en": 3})
    report = DataReport()
    assert [example.source for example in load(source, report=report)] == ["打开文件", "保存"]
    assert report.sources[0].filtered == 1
    source.limit = 1
    assert [example.source for example in load(source)] == ["打开文件"]
    source.min_words = {"english": 3}
    with pytest.raises(DataError, match="english"):
        load(source)


def test_filters_limits_duplicates_lengths_and_scripts(tmp_path):
    rows = [
        {"s": "train", "a": "кот", "b": "мысық"},
        {"s": "train", "a": "кот", "b": "мысық"},
        {"s": "test", "a": "дом", "b": "үй"},
        {"s": "train", "a": " ", "b": "үй"},
        {"s": "train", "a": "длинный", "b": "ж" * 51},
        {"s": "train", "a": "дом", "b": "ж" * 40},
        {"s": "train", "a": "дом", "b": "home"},
        {"s": "train", "a": "English words", "b": "тест"},
    ]
    path = write_lines(tmp_path / "a.jsonl", rows)
    report = DataReport()
    source = SourceConfig("pairs", path=path, source="a", target="b", source_language="ru", target_language="kk",
                          where={"s": "train"})  # fmt: skip
    needs = TextNeeds(max_characters=50, min_script_share=0.5, max_length_ratio=10)
    assert [example.source for example in load(source, needs=needs, report=report)] == ["кот"]
    counts = report.sources[0]
    assert counts.dropped == {"duplicate": 1, "empty": 1, "wrong script": 2, "too long": 1, "length ratio": 1}
    assert (counts.rows, counts.filtered) == (8, 1)
    source.limit = 1
    assert len(load(source)) == 1


def test_swapped_columns_are_warned_about():
    report = DataReport()
    load(SourceConfig("text", path=UI, columns={"zh": "ug"}), report=report)
    assert "letters of 'zh' are in its script" in report.warnings()[0]
    assert "warning" in str(report)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (SourceConfig("pairs", path=UI, source="en", target="uk"), r"ui\.jsonl:1: no column 'uk'"),
        (SourceConfig("pairs", path=UI, source="{zh} {englsh}", target="en"), r"ui\.jsonl:1: no column 'englsh'"),
        (SourceConfig("pairs", path=UI, source="en", target="ug", where={"spilt": "train"}), "did you mean 'split'"),
        (SourceConfig("pairs", path=UI, source="en", target="split", values={"train": "a"}), "'values' does not map"),
        (
            SourceConfig("pairs", path=UDHR, source="en", target="ug"),
            r"udhr\.jsonl:1: column 'en': expected text, found",
        ),
        (SourceConfig("pairs", path=UI, source="en"), "needs 'target'"),
        (SourceConfig("labels", path=UI, text="en"), "needs 'label'"),
        (SourceConfig("text", path=UI), "needs 'languages'"),
        (SourceConfig("parallel", path=UI, languages=["zh", "ug"]), "needs 'directions' or 'pivot'"),
        (SourceConfig("parallel", path=UI, languages=["zh"], pivot="zh"), "two or more"),
        (SourceConfig("parallel", path=UI, languages=["zh", "ug"], directions=["zhug"]), "not of the form"),
        (SourceConfig("parallel", path=UI, languages=["zh", "ug"], directions=["zh-kk"]), "'kk' has no column"),
        (SourceConfig("parallel", path=UI, languages=["zh", "ug"], pivot="en"), "'en' has no column"),
        (SourceConfig("parallel", path=UI, languages=["xx", "yy"], pivot="xx"), "none of the columns"),
        (SourceConfig("pairs", path=UI, source="en", target="ug", where={"split": "none"}), "no usable example"),
        (SourceConfig("pairs", source="en", target="ug"), "either 'path' or 'dataset'"),
        (SourceConfig("pairs", path=UI, dataset="x", source="en", target="ug"), "either 'path' or 'dataset'"),
        (SourceConfig("pairs", path=UI, source="en", target="ug", limit=0), "limit 0 is not positive"),
        (SourceConfig("pairs", dataset="/no/such/data", source="a", target="b"), "data set '/no/such/data'"),
    ],
)
def test_faults_name_what_is_wrong(source, message):
    with pytest.raises(DataError, match=message):
        load(source)


def test_sentences_keep_the_text_and_know_the_scripts():
    text = "First. Second? 第一句。第二句！ བཀྲ་ཤིས། བདེ་ལེགས། سالام؟ ياخشى.\nEnd e.g.this"
    pieces = split_sentences(text)
    assert "".join(pieces) == text
    assert [piece.strip() for piece in pieces] == [
        "First.", "Second?", "第一句。", "第二句！", "བཀྲ་ཤིས།", "བདེ་ལེགས།", "سالام؟", "ياخشى.", "End e.g.this",
    ]  # fmt: skip


def test_long_documents_are_cut_at_sentences_and_lose_nothing(tmp_path):
    document = " ".join(f"Sentence number {number}." for number in range(40))
    source = SourceConfig("text", path=write_lines(tmp_path / "a.jsonl", [{"t": document}]), text="t", language="en")
    examples = chunk_documents(load(source), 25, lambda text: len(text.split()))
    assert len(examples) > 1
    assert all(len(example.source.split()) <= 25 for example in examples)
    assert " ".join(example.source for example in examples) == document


def test_scripts():
    assert [script_of(character) for character in "aЖبབ漢ᠮ𠀀"] == [
        "Latin", "Cyrillic", "Arabic", "Tibetan", "Han", "Mongolian", "Han",
    ]  # fmt: skip
    assert script_of("1") is script_of(" ") is script_of("。") is None
    assert expected_share("привет abc", "kk") == pytest.approx(6 / 9)
    assert expected_share("123", "kk") is None and expected_share("abc", "xx") is None
