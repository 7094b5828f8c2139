"""Texts for tests: from plain to hostile."""

import json
from pathlib import Path

from hypothesis import strategies as st

LANGS = st.sampled_from([None, "en", "cmn", "zh-TW", "tr", "az", "ml", "ja", "ko", "ar", "hi", "th", "xx"])

ODD = "aiI İıßΣσς\u0307\u0301\u0323'’ʼ`\u200c\u200d\u200b\ufeff.-–(\"·നരക്ാൻൽऽ中国々〇五ā1ǎü5v:rがカ한7७\ue000"
ODD += "😀👍🏽\ufe0f\u20e3"
TEXTS = st.text(st.one_of(st.characters(exclude_categories=()), st.sampled_from(ODD)), max_size=12)
"""Any code points, lone surrogates among them, and often those that have tripped somebody up."""

HOSTILE = [
    "",
    " \t\r\n\u2028\u3000",
    "\x00\x07\x1b[31m",
    "\ud800",
    "\udfff\ud800x",
    "😀👩‍👩‍👧‍👦🏳️‍🌈",
    "\u202eabc\u202c",
    "\u0301" * 200,
    "a" + "\u0301" * 200,
    "\ufffe\uffff\U0010ffff",
    "'" * 300,
    "क" + "\u200d" * 300 + "a",
    "人" + "々" * 300,
    "abc " * 1000,
    "ക" * 2000,
    "สวัสดี" * 200,
    "zhong" * 300 + "1",
    "\\u0041 %s {0} ::lcode eng",
]

CORPORA = {
    "malayalam_msc": 808,
    "mboshi": 888,
    "yoruba": 415,
    "mandarin_syllables": 560,
    "speechocean_en_l2": 1504,
    "spoken_words_zh_en": 2352,
    "hebrew_yesno": 30,
}
"""Transcribed recordings with the number of their rows."""


def rows(root: Path, corpus: str) -> list[tuple[str, str]]:
    """Text and language of every row of a corpus."""
    lines = (root / corpus / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    return [(row["text"], row["lang"]) for row in map(json.loads, lines)]
