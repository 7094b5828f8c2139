"""Policies of words and speakers."""

import json
from pathlib import Path

import pytest
from refusals import said

from metavox.runtime.policy import Policy, mode_from, policy_from

TEXT = """
mode: owner-biased
default: anyone
threshold_llr: 1.5
words:
  on: [anna, ben]
  no: nobody
  1: carl
"""


def test_a_file_is_read_as_text_so_that_on_no_and_numbers_are_words(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(TEXT, encoding="utf-8")
    policy = policy_from(tmp_path / "p.yaml")
    assert policy.words == {"on": ("anna", "ben"), "no": "nobody", "1": ("carl",)}
    assert (policy.mode, policy.default, policy.threshold_llr) == ("owner-biased", "anyone", 1.5)
    assert policy.rule("on") == ("anna", "ben")
    assert policy.rule("off") == "anyone"


def test_json_and_plain_values_say_the_same(tmp_path: Path) -> None:
    plain = {"default": "nobody", "words": {"caf\u00e9": ["zo\u00eb"]}}
    (tmp_path / "p.json").write_text(json.dumps(plain), encoding="utf-8")
    assert policy_from(tmp_path / "p.json") == policy_from(plain)
    assert policy_from(plain).mode == "owner-only"
    policy = policy_from(plain)
    assert policy_from(policy) is policy


def test_text_is_compared_in_one_form() -> None:
    policy = policy_from({"default": "nobody", "words": {"cafe\u0301": ["zoe\u0308"]}})
    policy.require_known(["caf\u00e9"], ["zo\u00eb"])
    assert policy.rule("caf\u00e9") == ("zo\u00eb",)


def test_unknown_words_and_speakers_are_refused_with_the_nearest() -> None:
    words, speakers = ["lights on", "open"], ["anna", "ben"]
    for plain, sentence in (
        ({"words": {"light on": "nobody"}}, "the word 'light on', which is not enrolled; did you mean 'lights on'?"),
        ({"words": {"open": ["ana"]}}, "the speaker 'ana', which is not enrolled; did you mean 'anna'?"),
        ({"default": ["xyz"]}, "the speaker 'xyz', which is not enrolled; enrolled are anna, ben."),
    ):
        policy = policy_from({"default": "anyone", **plain})
        assert sentence in said(lambda policy=policy: policy.require_known(words, speakers))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("words:\n  open: nobody\n", "default is"),
        ("default: anyone\nmoed: open\n", "unknown key moed; did you mean mode?"),
        ("default: anyone\nmode: shut\n", "mode is 'shut'"),
        ("default: anyone\nwords:\n  open: []\n", "write anyone, nobody, a speaker or a list of speakers"),
        ("default: anyone\nthreshold_llr: nan\n", "threshold_llr"),
        ("default: [anyone\n", "cannot be read as YAML or JSON"),
        ("", "names no words"),
        ("!!python/object/apply:os.system [ls]", "names no words"),
        ("\x00", "cannot be read"),
    ],
)
def test_other_files_are_refused_in_a_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "p.yaml").write_text(text, encoding="utf-8")
    assert sentence in said(lambda: policy_from(tmp_path / "p.yaml"))


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    assert "does not exist" in said(lambda: policy_from(tmp_path / "none.yaml"))
    (tmp_path / "large.yaml").write_text("#" * 1_000_001, encoding="utf-8")
    assert "1000000 bytes" in said(lambda: policy_from(tmp_path / "large.yaml"))
    assert "--mode is 'shut'" in said(lambda: mode_from("shut"))
    assert mode_from("open") == "open"
    assert Policy(default="anyone").words == {}
