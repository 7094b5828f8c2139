"""The report: what it says must follow from the numbers, and nothing in them may break the page."""

import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from metavox.contracts import InputError
from metavox.evaluation.reliability import Answers
from metavox.evaluation.report import Confusion, Embedding, ReportData, render, write_report

VOID = {"meta"}
WORDS = ("ačiū", "শূন্য", "تسعة", "零", "dört")
HOSTILE = """<script>alert(1)</script>"'&{{ 7 * 7 }}{% raw %}"""


class Page(HTMLParser):
    """Checks that elements close in order, and keeps what a reader sees."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


def a_summary(model, corpus, shots, mean, half=0.02, **more):
    ci95 = None if half is None else [mean - half, mean + half]
    about = {"metric": "accuracy", "n": 500, "episodes": 10, "seed": 0, "ways": 10, "queries": 5, "seconds": 2.0}
    return {**about, "mean": mean, "ci95": ci95, "model": model, "corpus": corpus, "shots": shots, **more}


def summaries_of(levels, corpora=("A", "B")):
    cells = [(model, corpus, k) for model in levels for corpus in corpora for k in (1, 5)]
    return [a_summary(model, corpus, k, levels[model] + k / 100) for model, corpus, k in cells]


def paired_row(model, versus, difference, half):
    ends = {"low": difference - half, "high": difference + half}
    return {"model": model, "versus": versus, "shots": 5, "difference": difference, "p_value": 0.0004, **ends}


GOOD = {"prototypes": 0.81, "MAML": 0.7, "mean": 0.6, "DTW": 0.63}


def a_log(n=200):
    lines = [
        {"step": i + 1, "loss": 3 / (1 + i / 20), "accuracy": i / n, "lr": 1e-3, "cpu_s": 0.1 * i} for i in range(n)
    ]
    for line in lines[49::50]:
        line["validation"] = line["accuracy"] / 2
    return lines


def group_row(name, episodes, share, **more):
    return {
        **{"group": name, "kind": "real", "episodes": episodes, "share": share, "classes": 2, "of_classes": 4},
        **{"utterances": 1234, "of_utterances": 5678, "mean_loss": 1.2345, **more},
    }


def some_answers(model="prototypes", corpus="A"):
    rng = np.random.default_rng(3)
    return Answers(rng.dirichlet(np.ones(4), 60), np.arange(60) % 6 // 2 + 1, 3, 2, model, corpus)


def a_report(**more):
    rng = np.random.default_rng(0)
    labels = [word for word in WORDS for _ in range(6)]
    values = {
        "title": "Words from a handful of recordings",
        "about": {"seed": "0", "version": "0.1.0"},
        "training": {"prototypes": a_log(), "MAML": a_log(30)},
        "summaries": summaries_of(GOOD),
        "paired": [paired_row("prototypes", "DTW", 0.18, 0.03), paired_row("MAML", "DTW", 0.01, 0.03)],
        "confusion": Confusion(WORDS, rng.integers(0, 9, (5, 5)), "prototypes", "A"),
        "embedding": Embedding(rng.normal(size=(30, 2)), labels, ["support", "query"] * 15, "Made by chance."),
        "enrolled": ["labas", "ačiū"],
        "enrolment": [
            {"spoken": "labas", "heard": "labas", "score": -0.2, "threshold": -0.4, "right": True},
            {"spoken": "ačiū", "heard": None, "score": -0.5, "threshold": -0.4, "right": False},
            {"spoken": "muzika", "heard": None, "score": -0.9, "threshold": -0.4, "right": True},
        ],
        "reliability": some_answers(),
        "drawn": {"en:yes": 9, "en:no": 3, "zh:零": 4},
        "groups": [group_row("words * en", 6, 0.75), group_row("слова * zh", 2, 0.25, mean_loss=None)],
        "drawn_for": "prototypes",
        "steps": {"task selection": "Nine tasks.", "evaluation": "Ten episodes."},
    }
    return ReportData(**{**values, **more})


# ------------------------------------------------------------------------------------------------------------- the page


def test_the_page_is_whole_loads_nothing_and_shows_words_of_any_script():
    html = render(a_report())
    page = Page(html)
    assert html.startswith("<!DOCTYPE html>")
    for word in WORDS:
        assert page.text.count(word) >= 3  # confusion row, confusion column, map
    assert not {"script", "link", "img", "iframe", "object"} & {tag for tag, _ in page.tags}
    assert not re.search(r"https?:|url\(|@import", html)
    assert all(value.startswith("#") for attrs in page.named("a") for value in [attrs["href"]])
    policy = next(a["content"] for a in page.named("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy


def test_anchors_lead_to_the_parts_that_are_there():
    for report in (
        a_report(),
        ReportData("only a title"),
        a_report(confusion=None, drawn={}, groups=[], embedding=None),
    ):
        page = Page(render(report))
        assert {a["href"][1:] for a in page.named("a")} == {s["id"] for s in page.named("section")}


@pytest.mark.parametrize(
    "part",
    [
        "summaries",
        "paired",
        "training",
        "confusion",
        "embedding",
        "enrolment",
        "reliability",
        "drawn",
        "groups",
        "steps",
        "about",
    ],
)
def test_any_part_may_be_missing(part):
    default = ReportData.__dataclass_fields__[part]
    empty = None if default.default is None else {} if part in ("training", "drawn", "steps", "about") else ()
    Page(render(a_report(**{part: empty})))


def test_every_figure_has_a_name_for_those_who_do_not_see_it():
    page = Page(render(a_report()))
    assert len(page.named("svg")) > 10
    for attrs in page.named("svg"):
        assert attrs.get("aria-hidden") == "true" or attrs["aria-label"]


def test_no_number_is_lost_on_the_way_to_svg():
    html = render(a_report())
    for body in re.findall(r"<svg.*?</svg>", html, re.S):
        assert not re.search(r"\b(nan|inf|None)\b", body)


def test_words_and_names_are_never_markup():
    hostile = HOSTILE
    report = a_report(
        title=hostile,
        subtitle=hostile,
        setting=hostile,
        about={hostile: hostile},
        training={hostile: a_log()},
        summaries=summaries_of({hostile: 0.8, hostile + "2": 0.6}, corpora=(hostile, "b")),
        paired=[paired_row(hostile, hostile + "2", 0.2, 0.1)],
        confusion=Confusion([hostile, "b"], np.array([[1, 2], [3, 4]]), hostile, hostile),
        embedding=Embedding(np.eye(2), [hostile, "b"], [hostile, "c"], hostile),
        enrolled=[hostile],
        enrolment=[{"spoken": hostile, "heard": hostile, "score": 1.0, "threshold": 0.0, "right": True}],
        reliability=some_answers(hostile, hostile),
        drawn={hostile + ":x": 3},
        groups=[group_row(hostile, 3, 1.0, kind=hostile)],
        drawn_for=hostile,
        steps={hostile: hostile},
    )
    html = render(report)
    page = Page(html)
    assert not page.named("script")
    assert "<script" not in html
    # Autoescaping knows attributes too: no label may end one and begin another.
    names = {name for _, attrs in page.tags for name in attrs}
    assert names == {name for _, attrs in Page(render(a_report())).tags for name in attrs}
    assert page.text.count("<script>alert(1)</script>") > 15
    assert "{{ 7 * 7 }}" in page.text


def test_a_path_that_is_not_utf8_is_written(tmp_path):
    path = tmp_path / "report.html"
    write_report(path, a_report(about={"data": b"/data/\xff".decode("utf-8", "surrogateescape")}))
    assert "/data/\\udcff" in path.read_text(encoding="utf-8")


def test_the_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "report.html"
    write_report(path, a_report())
    before = path.read_text(encoding="utf-8")
    with pytest.raises(InputError):
        write_report(path, a_report(summaries=[{"metric": "accuracy"}]))
    assert path.read_text(encoding="utf-8") == before
    write_report(path, a_report(title="Another"))
    assert "Another" in path.read_text(encoding="utf-8")
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_a_missing_jinja_names_the_install_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(InputError, match=r'pip install "metavox\[demo\]"'):
        render(a_report())


def test_the_same_data_give_the_same_page():
    assert render(a_report()) == render(a_report())


# ------------------------------------------------------------------------------------------------------------ the parts


def test_who_was_drawn_is_told_by_group_with_its_share_and_its_loss():
    page = Page(render(a_report()))
    for text in ("Who was drawn", "prototypes", "words * en", "слова * zh", "2 of 4", "1,234 of 5,678", "1.23", "75.0"):
        assert text in page.text, text
    assert "next chance" not in page.text
    rows = [group_row("a", 3, 0.6, probability=0.7, recent_loss=0.9), group_row("b", 2, 0.4, probability=0.3)]
    page = Page(render(a_report(groups=rows, drawn={})))
    assert "next chance" in page.text
    assert "70.0" in page.text
    assert "median a class" not in page.text


def test_groups_that_were_never_drawn_divide_nothing():
    Page(render(a_report(groups=[group_row("a", 0, 0.0, mean_loss=None)])))


def test_classes_that_were_never_drawn_divide_nothing():
    Page(render(a_report(drawn={"en:yes": 0, "bare": 0})))


@pytest.mark.parametrize("n", [2, 5, 20])
def test_a_confusion_matrix_shows_counts_and_row_shares(n):
    rng = np.random.default_rng(n)
    counts = rng.integers(0, 4, (n, n))
    counts[-1] = 0  # a word nobody said
    html = render(a_report(confusion=Confusion([f"w{i}" for i in range(n)], counts, "prototypes", "A")))
    cells = re.findall(r'<td class="cell (?:hit|miss)"[^>]*>(\d+)<small>(\d+) %</small>', html)
    expected = [(c, 100 * c / counts[i].sum()) for i in range(n) for c in counts[i].tolist() if c]
    assert [int(count) for count, _ in cells] == [count for count, _ in expected]
    assert all(abs(int(share) - want) <= 0.5 for (_, share), (_, want) in zip(cells, expected, strict=True))
    assert html.count('class="cell none"') == n * n - len(expected)
    assert "not spoken" in html


def test_enrolment_counts_known_and_unknown_words_apart():
    text = Page(render(a_report())).text
    assert "2 words were enrolled: labas , ačiū ." in text
    assert (
        "1 of 2 new takes of them were recognised. 1 of 1 takes of words that were not enrolled were refused." in text
    )


def test_probabilities_say_what_was_asked_and_disappear_where_nothing_was():
    text = Page(render(a_report())).text
    assert "After 3 enrolments of 3 words of A from 2\u00a0takes each, prototypes gave 60 answers" in text.replace(
        " takes", "\u00a0takes"
    )
    assert "40 to new takes of enrolled words, and 20 to words that were not enrolled" in text
    assert re.search(r"lie \d+\.\d points apart on average \(expected calibration error\)", text)
    assert re.search(r"Brier score \d\.\d{3}", text)
    nothing = Answers(np.zeros((0, 4)), np.zeros(0, int), 0, 2, "m", "A")
    for empty in (None, nothing):
        assert "Brier" not in Page(render(a_report(reliability=empty))).text


def test_verdicts_follow_the_paired_intervals():
    rows = [paired_row("a", "z", 0.2, 0.1), paired_row("b", "z", -0.2, 0.1), paired_row("c", "z", 0.02, 0.1)]
    rows.append({**paired_row("d", "z", 0.1, 0.0), "low": float("nan"), "high": float("nan"), "p_value": float("nan")})
    text = Page(render(a_report(paired=rows))).text
    for model, verdict in (("a", "better"), ("b", "worse"), ("c", "no clear difference"), ("d", "no clear difference")):
        assert re.search(rf" {model} 5 [+−]\d+\.\d .{{0,24}} {verdict} ", text)


def test_a_file_beside_is_not_left_where_writing_fails(tmp_path: Path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space"):
        write_report(tmp_path / "report.html", replace(a_report(), title="x"))
    assert list(tmp_path.iterdir()) == []


def test_what_is_missing_in_a_table_is_said():
    partial = [*summaries_of(GOOD), a_summary("lucky", "A", 5, 0.99)]
    text = Page(render(a_report(summaries=partial))).text
    assert "1 of 2 sets only" in text
    assert "not scored" in text
    assert "no interval" in Page(render(a_report(summaries=[a_summary("DTW", "A", 5, 0.7, half=None)]))).text


def test_the_headline_stands_on_the_page():
    text = Page(render(a_report(setting="unknown words"))).text
    assert "the best trained learner (prototypes) recognises 10 unknown words with 86.0 % accuracy" in text
    assert "DTW (paired interval +15.0 to +21.0)." in text


def test_broken_training_logs_do_not_break_the_page():
    broken = [{"step": 1, "loss": float("nan"), "accuracy": 0.1}, {"step": 2, "loss": float("inf"), "accuracy": None}]
    html = render(a_report(training={"none": [], "broken": broken}))
    assert not re.search(r"\b(nan|inf|None)\b", "".join(re.findall(r"<svg.*?</svg>", html, re.S)))


def test_shapes_that_do_not_fit():
    with pytest.raises(InputError, match="2 labels"):
        Confusion(["a", "b"], np.eye(3, dtype=np.int64), "m", "c")
    with pytest.raises(InputError, match="3 points have 2 labels"):
        Embedding(np.zeros((3, 2)), ["a", "b"])
    with pytest.raises(InputError, match="3 points have 1 split"):
        Embedding(np.zeros((3, 2)), ["a", "b", "c"], ["x"])
    with pytest.raises(InputError, match="not finite"):
        Embedding(np.full((1, 2), np.nan), ["a"])
