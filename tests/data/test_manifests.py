"""Corpora good and bad: what is loaded, what is refused and in which words, and splits that share nobody."""

import dataclasses
import json
import subprocess
import sys
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metavox.contracts import InputError, Utterance
from metavox.data import manifests
from metavox.data.manifests import assert_disjoint, check_corpus, load_corpus, split_disjoint, write_manifest

RATE_HZ = 16_000


def sine(seconds: float = 0.3, level: float = 0.3) -> np.ndarray:
    return level * np.sin(2 * np.pi * 440 * np.arange(round(RATE_HZ * seconds)) / RATE_HZ)


def save(path: Path, wave: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sine() if wave is None else wave, RATE_HZ)
    return path


def row(name: str, **changes: Any) -> dict[str, Any]:
    return {"audio_filepath": name, "duration": 0.3, "text": "yes", **changes}


def corpus(folder: Path, rows: list[Any]) -> Path:
    """A manifest of rows: dicts, or bytes as they are."""
    lines = [r if isinstance(r, bytes) else json.dumps(r, ensure_ascii=False).encode() for r in rows]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
    return folder


# --------------------------------------------------------------------------------------------------------- good corpora


def test_a_manifest_row_becomes_an_utterance(tmp_path: Path) -> None:
    save(tmp_path / "set" / "audio" / "a.b.flac")
    save(tmp_path / "set" / "b.wav")
    facts = {"label": "y", "speaker": "s1", "lang": "lt", "accent": "x", "gender": "female", "age": 6, "other": [1]}
    rows = [row("audio/a.b.flac", **facts), row("b.wav", id="mine", text="", label=None, lang=" ", age_group="30-40")]
    first, second = load_corpus(corpus(tmp_path / "set", rows))
    assert first == Utterance(
        id="audio/a.b", path=tmp_path / "set" / "audio" / "a.b.flac", duration_s=0.3, text="yes", label="y",
        speaker="s1", lang="lt", accent="x", gender="female", age="6", corpus="set",
    )  # fmt: skip
    assert second == Utterance(id="mine", path=tmp_path / "set" / "b.wav", duration_s=0.3, age="30-40", corpus="set")
    assert load_corpus(tmp_path / "set" / "manifest.jsonl") == [first, second]


def test_paths_are_absolute_whatever_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "set" / "a.wav")
    corpus(tmp_path / "set", [row("a.wav")])
    monkeypatch.chdir(tmp_path / "set")
    assert load_corpus(".") == load_corpus(tmp_path / "set")


def test_byte_order_mark_blank_lines_and_line_ends_do_not_matter(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save(tmp_path / f"{name}.wav")
    text = json.dumps(row("a.wav", text="x\u2028y"), ensure_ascii=False), json.dumps(row("b.wav"))
    (tmp_path / "manifest.jsonl").write_bytes(b"\xef\xbb\xbf" + "\r\n\n  \n".join(text).encode())
    assert [u.text for u in load_corpus(tmp_path)] == ["x\u2028y", "yes"]
    (tmp_path / "manifest.jsonl").write_bytes(b"\xef\xbb\xbf\n" + "\n".join(text).encode())
    assert len(load_corpus(tmp_path)) == 2


def test_a_folder_of_words(tmp_path: Path) -> None:
    nfd = unicodedata.normalize("NFD", "ačiū")
    assert nfd != "ačiū"
    for path in ("taip/2.WAV", "taip/1.flac", f"{nfd}/1.ogg", ".cache/x.wav", "__MACOSX/y.wav"):
        save(tmp_path / path)
    (tmp_path / "taip" / "notes.txt").write_text("three takes")
    utterances = load_corpus(tmp_path)
    assert [(u.label, u.text, u.speaker) for u in utterances] == [("ačiū", "ačiū", None)] + [("taip", "taip", None)] * 2
    assert [u.id for u in utterances] == [f"{nfd}/1", "taip/1", "taip/2"]
    assert all(u.duration_s == pytest.approx(0.3, abs=0.01) and u.path.is_file() for u in utterances)
    report = check_corpus(tmp_path)
    assert report.ok
    assert (report.layout, report.n_utterances, report.n_classes, report.n_speakers) == ("word_folders", 3, 2, 0)
    assert report.hours == pytest.approx(0.9 / 3600, rel=0.05)


@pytest.mark.parametrize("lists", [True, False])
def test_speech_commands_and_its_splits(tmp_path: Path, lists: bool) -> None:
    speakers = {"a69b9b3e": "validation", "bb05582b": "test", "00000001": "train"}
    for word in ("yes", "no"):
        for speaker in speakers:
            save(tmp_path / word / f"{speaker}_nohash_0.wav")
    save(tmp_path / "_background_noise_" / "tap.wav")
    if lists:
        (tmp_path / "validation_list.txt").write_text(
            "no/a69b9b3e_nohash_0.wav\r\nyes/a69b9b3e_nohash_0.wav\ngone/x.wav\n"
        )
        (tmp_path / "testing_list.txt").write_text("no/bb05582b_nohash_0.wav\nyes/bb05582b_nohash_0.wav")
    everything = load_corpus(tmp_path)
    assert len(everything) == 6
    assert {u.speaker for u in everything} == set(speakers)
    for speaker, part in speakers.items():
        assert [(u.label, u.speaker) for u in load_corpus(tmp_path, split=part)] == [("no", speaker), ("yes", speaker)]
    assert check_corpus(tmp_path).layout == "speech_commands"
    with pytest.raises(InputError, match="no part named 'dev'"):
        load_corpus(tmp_path, split="dev")


def test_a_language_is_kept_or_filled_in(tmp_path: Path) -> None:
    for name in "abc":
        save(tmp_path / f"{name}.wav")
    corpus(tmp_path, [row("a.wav", lang="lt"), row("b.wav"), row("c.wav", lang="bn")])
    assert [(u.id, u.lang) for u in load_corpus(tmp_path, lang="lt")] == [("a", "lt"), ("b", "lt")]
    corpus(tmp_path, [row("a.wav", lang="lt"), row("c.wav", lang="bn")])
    with pytest.raises(InputError, match="no recordings in 'yo'; choose one of bn, lt"):
        load_corpus(tmp_path, lang="yo")


def test_ten_thousand_rows_load_at_once_and_no_audio_is_opened(tmp_path: Path) -> None:
    (tmp_path / "audio").mkdir()
    for n in range(10_000):
        (tmp_path / "audio" / f"{n}.flac").write_bytes(b"x")  # opening these as audio would fail
    corpus(tmp_path, [row(f"audio/{n}.flac", label=f"w{n % 50}", speaker=f"s{n % 70}") for n in range(10_000)])
    code = (  # in a process of its own, where no types are checked
        "import sys, time; from metavox.data.manifests import load_corpus; start = time.process_time(); "
        "ids = [u.id for u in load_corpus(sys.argv[1])]; print(time.process_time() - start); "
        "sys.exit(ids != [f'audio/{n}' for n in range(10_000)])"
    )
    answer = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, capture_output=True, text=True)
    assert float(answer.stdout) < 1.0


# ---------------------------------------------------------------------------------------------------------- bad corpora


@pytest.fixture
def two_clips(tmp_path: Path) -> Path:
    folder = tmp_path / "set"
    for name in ("a", "b"):
        save(folder / f"{name}.wav")
    (folder / "folder").mkdir()
    (folder / "empty.wav").touch()
    return folder


def test_what_is_no_corpus_says_so(tmp_path: Path) -> None:
    clip = save(tmp_path / "loose" / "a.wav")
    (tmp_path / "empty").mkdir()
    (tmp_path / "dir" / "manifest.jsonl").mkdir(parents=True)
    said = {
        tmp_path / "nowhere": "does not exist",
        tmp_path / "a\0b": "does not exist",
        clip: "neither a folder nor a manifest",
        tmp_path / "empty": "neither manifest.jsonl nor word folders",
        tmp_path / "dir": "is a folder",
    }
    for path, fragment in said.items():
        (problem,) = check_corpus(path).problems
        assert fragment in problem.message
        with pytest.raises(InputError, match=fragment):
            load_corpus(path)
    assert [p.kind for p in check_corpus(tmp_path / "loose").problems] == ["layout", "corpus"]
    with pytest.raises(InputError, match="no part named 'train'; leave split out"):
        load_corpus(corpus(tmp_path / "loose", [row("a.wav")]), split="train")


def test_no_take_of_a_word_folder_is_lost_in_silence(tmp_path: Path) -> None:
    save(tmp_path / "yes" / "1.wav")
    save(tmp_path / "yes" / "1.flac")
    save(tmp_path / "stray.ogg")
    save(tmp_path.parent / f"{tmp_path.name}-far" / "1.wav")
    (tmp_path / "far").symlink_to(tmp_path.parent / f"{tmp_path.name}-far")
    (tmp_path / "no").mkdir()
    (tmp_path / "no" / "1.M4A").write_bytes(b"x")
    (tmp_path / "maybe").mkdir()
    (tmp_path / "yes" / "2.wav").write_text("not audio")
    report = check_corpus(tmp_path)
    assert Counter((p.where, p.kind) for p in report.problems) == Counter(
        [
            ("stray.ogg", "layout"),
            ("no/1.M4A", "audio"),
            ("maybe", "layout"),
            ("far/1.wav", "path"),
            ("yes/1.wav", "id"),
            ("yes/2.wav", "audio"),
        ]
    )
    assert report.n_utterances == 1


def test_a_file_name_that_is_not_utf8(tmp_path: Path) -> None:
    save(tmp_path / "yes" / "1.wav")
    (tmp_path / "yes" / "1.wav").rename(tmp_path / "yes" / "\udce9.wav")
    save(tmp_path / "yes" / "a69b9b3e_nohash_0.wav")
    with pytest.raises(InputError, match="not valid Unicode"):
        load_corpus(tmp_path, split="train")
    (problem,) = check_corpus(tmp_path).problems
    assert (problem.where, problem.kind) == ("yes/\\udce9.wav", "encoding")


def test_listening_finds_what_a_row_cannot_show(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    waves = {
        "good": sine(1.0),
        "short": sine(0.05),
        "silent": np.zeros(RATE_HZ),
        "clipped": np.clip(sine(1.0, 30.0), -1, 1),
        "long": sine(1.5),
        "quiet": sine(1.0, 0.01),
    }
    for name, wave in waves.items():
        save(tmp_path / f"{name}.wav", wave)
    save(tmp_path / "cut.flac", rng.normal(0, 0.1, RATE_HZ))
    whole = (tmp_path / "cut.flac").read_bytes()
    (tmp_path / "cut.flac").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.wav").write_text("this is no audio" * 100)
    names = ["good.wav", "quiet.wav", "short.wav", "silent.wav", "clipped.wav", "long.wav", "cut.flac", "text.wav"]
    stated = {"short.wav": 0.05, "good.wav": 1.09}  # 0.09 s is within the tolerance
    corpus(tmp_path, [row(name, duration=stated.get(name, 1.0)) for name in names])
    calls: list[tuple[int, int]] = []
    report = check_corpus(tmp_path, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(n, 8) for n in range(1, 9)]
    said = {p.where: p for p in report.problems}
    assert {p.kind for p in report.problems} == {"audio"}
    assert sorted(said) == [f"manifest.jsonl:{n}" for n in range(3, 9)]
    fragments = ("lasts 0.05 s", "silent", "clipped", "lasts 1.500 s", "cut.flac", "text.wav")
    for line, fragment in enumerate(fragments, 3):
        problem = said[f"manifest.jsonl:{line}"]
        assert fragment in problem.message
        assert problem.remedy
    assert check_corpus(tmp_path, audio=False).ok
    assert len(load_corpus(tmp_path)) == 8


# --------------------------------------------------------------------------------------------------------------- splits


def clips(groups: list[str | None], field: str = "speaker") -> list[Utterance]:
    base = Utterance(id="", path=Path("x.wav"), duration_s=1.0)
    return [dataclasses.replace(base, id=str(n), **{field: group}) for n, group in enumerate(groups)]


@given(
    groups=st.lists(st.sampled_from("abcdefghijkl"), min_size=1, max_size=80),
    shares=st.lists(st.floats(0.01, 10), min_size=1, max_size=4),
    seed=st.integers(0, 2**32),
    by=st.sampled_from(["speaker", "label", "text"]),
)
def test_parts_share_nobody_and_keep_their_shares(groups: list[str], shares: list[float], seed: int, by: Any) -> None:
    utterances = clips(list(groups), by)
    sizes = Counter(groups)
    if len(sizes) < len(shares):
        with pytest.raises(InputError, match="ask for fewer parts"):
            split_disjoint(utterances, by=by, shares=shares, seed=seed)
        return
    parts = split_disjoint(utterances, by=by, shares=shares, seed=seed)
    homes = [{getattr(u, by) for u in part} for part in parts]
    assert all(homes)
    assert sum(len(home) for home in homes) == len(sizes)
    assert sorted((u for part in parts for u in part), key=lambda u: int(u.id)) == utterances
    for part, share in zip(parts, shares, strict=True):
        assert [int(u.id) for u in part] == sorted(int(u.id) for u in part)
        assert len(part) <= share / sum(shares) * len(groups) + max(sizes.values()) + 1e-6
    again = split_disjoint(utterances[::-1], by=by, shares=[10 * s for s in shares], seed=seed)
    assert [part[::-1] for part in again] == parts


def test_shares_are_met_closely_and_the_seed_decides() -> None:
    utterances = clips([f"s{n % 200}" for n in range(2000)])
    first = split_disjoint(utterances, by="speaker", shares=(0.8, 0.1, 0.1), seed=0)
    assert [len(part) for part in first] == [1600, 200, 200]
    assert first != split_disjoint(utterances, by="speaker", shares=(0.8, 0.1, 0.1), seed=1)


def test_one_sentence_in_two_spellings_stays_in_one_part() -> None:
    with pytest.raises(InputError, match="1 different texts cannot make 2 parts"):
        split_disjoint(clips(["Good  day", "good day", "GOOD day "], "text"), by="text", shares=(1, 1), seed=0)


@pytest.mark.parametrize("shares", [(), (0.5, 0), (1, -1), (float("nan"), 1), (float("inf"), 1)])
def test_shares_that_mean_nothing(shares: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="one positive number"):
        split_disjoint(clips(["a", "b"]), by="speaker", shares=shares, seed=0)


def test_an_unknown_speaker_cannot_be_kept_apart() -> None:
    utterances = clips(["a", None, "b", None, " "])
    with pytest.raises(InputError, match="3 of 5 utterances have no speaker"):
        split_disjoint(utterances, by="speaker", shares=(1, 1), seed=0)


def test_the_proof_fails_when_a_part_leaks() -> None:
    utterances = clips(["a", "b", "a"])
    assert_disjoint([[utterances[0], utterances[2]], [utterances[1]], []], "speaker")
    with pytest.raises(InputError, match="the speaker 'a' is in parts 1 and 3"):
        assert_disjoint([[utterances[0]], [utterances[1]], [utterances[2]]], "speaker")


# ---------------------------------------------------------------------------------------------------------------- write

WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12).map(lambda t: unicodedata.normalize("NFC", t))
FACT = st.none() | WORDS.map(str.strip).filter(bool)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_is_written_is_read_back(two_clips: Path, data: st.DataObject) -> None:
    written = [
        Utterance(
            id=name,
            path=two_clips / f"{name}.wav",
            duration_s=data.draw(st.floats(1e-6, 1e6)),
            text=data.draw(WORDS),
            corpus="set",
            **{key: data.draw(FACT) for key in ("label", "speaker", "lang", "accent", "gender", "age")},
        )
        for name in ("a", "b")
    ]
    write_manifest(two_clips, written)
    assert load_corpus(two_clips) == written
    write_manifest(two_clips / "part.jsonl", written[:1])
    assert load_corpus(two_clips / "part.jsonl") == written[:1]


def test_a_manifest_is_written_whole_or_not_at_all(two_clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = Utterance(id="a", path=two_clips / "a.wav", duration_s=0.3)
    write_manifest(two_clips, [good])
    before = {path: path.read_bytes() for path in two_clips.iterdir() if path.is_file()}
    refused = {
        "lies outside": dataclasses.replace(good, id="z", path=two_clips.parent / "z.wav"),
        "must be above 0": dataclasses.replace(good, id="b", path=two_clips / "b.wav", duration_s=float("nan")),
        "id 'a' comes twice": dataclasses.replace(good, path=two_clips / "b.wav"),
        "file 'a.wav' comes twice": dataclasses.replace(good, id="b"),
        "not valid Unicode": dataclasses.replace(good, id="b", path=two_clips / "b.wav", text="\ud800"),
    }
    for fragment, bad in refused.items():
        with pytest.raises(InputError, match=fragment):
            write_manifest(two_clips, [good, bad])
    with pytest.raises(InputError, match="nothing to write"):
        write_manifest(two_clips, [])
    with pytest.raises(InputError, match="does not exist"):
        write_manifest(two_clips / "none" / "manifest.jsonl", [good])

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(manifests.os, "replace", full)
    with pytest.raises(InputError, match="No space left"):
        write_manifest(two_clips, [good])
    assert {path: path.read_bytes() for path in two_clips.iterdir() if path.is_file()} == before


# ------------------------------------------------------------------------------------------------------ real recordings


@pytest.mark.real
def test_every_real_set_loads_whole(data_root: Path) -> None:
    for manifest in sorted(data_root.glob("*/manifest.jsonl")):
        rows = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
        utterances = load_corpus(manifest.parent)
        assert [u.path for u in utterances] == [manifest.parent / r["audio_filepath"] for r in rows]
        assert [u.duration_s for u in utterances] == [r["duration"] for r in rows]
        assert [u.speaker for u in utterances] == [r.get("speaker") for r in rows]
        assert {u.corpus for u in utterances} == {manifest.parent.name}


@pytest.mark.real
def test_real_word_sets_are_fit_for_use(data_root: Path) -> None:
    for name in ("lithuanian_commands", "wake_words_en", "fsdd_en_digits", "noise"):
        report = check_corpus(data_root / name)
        assert report.ok, report.problems
    assert (report.n_classes, report.languages) == (0, ())


@pytest.mark.real
def test_real_takes_that_hold_no_word_are_named(data_root: Path) -> None:
    """Four takes of ``bengali_digits`` are 0.04 to 0.09 s of sound, padded with zeros to 1 s."""
    report = check_corpus(data_root / "bengali_digits")
    assert [p.where.split(":")[1] for p in report.problems] == ["422", "706", "768", "1188"]
    assert all("between padding zeros" in p.message for p in report.problems)


@pytest.mark.real
def test_a_real_set_splits_by_speaker_and_by_word(data_root: Path) -> None:
    utterances = load_corpus(data_root / "lithuanian_commands")
    for by, other in (("speaker", "label"), ("label", "speaker")):
        parts = split_disjoint(utterances, by=by, shares=(0.5, 0.25, 0.25), seed=3)
        assert abs(len(parts[0]) / len(utterances) - 0.5) < 0.1
        with pytest.raises(InputError, match="must share none"):
            assert_disjoint(parts, other)
