"""The demo's languages: names for people, and the HTML attributes that make a browser set each script well."""

from __future__ import annotations

NAMES = {
    "en": "English",
    "zh": "Chinese",
    "ug": "Uyghur",
    "kk": "Kazakh",
    "mn": "Mongolian",
    "hi": "Hindi",
    "si": "Sinhala",
    "ta": "Tamil",
    "dz": "Dzongkha",
    "bo": "Tibetan",
}
TAGS = {"zh": "zh-Hans", "mn": "mn-Cyrl", "kk": "kk-Cyrl", "ug": "ug-Arab"}
RIGHT_TO_LEFT = {"ug"}


def name_of(language: str) -> str:
    return NAMES.get(language, language)


def language_attributes(language: str) -> str:
    """`lang` and `dir` of an HTML or SVG element that holds text of `language`."""
    direction = "rtl" if language in RIGHT_TO_LEFT else "ltr"
    return f'lang="{TAGS.get(language, language)}" dir="{direction}"'
