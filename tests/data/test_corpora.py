"""From names to recordings: folders, METAVOX_DATA, what is absent, what is left out."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sounds

from metavox.config import AugmentConfig, DataConfig, WaveConfig
from metavox.contracts import FrontEnd, InputError, Utterance
from metavox.data.corpora import asked_variants, data_root, gather, locate, n_cores, open_corpora, require
from metavox.data.variants import Variants


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two corpora, as METAVOX_DATA names one."""
    root = tmp_path_factory.mktemp("shelf")
    sounds.manifest_corpus(root / "one", sounds.WORDS[:3], ("anna", "bela"), 1)
    sounds.word_folders(root / "two", sounds.WORDS[3:6], ("carl",), 2)
    return root


@pytest.fixture(autouse=True)
def environment(shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METAVOX_DATA", str(shelf))
    monkeypatch.setenv("METAVOX_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def gathered(**config: Any) -> Any:
    return gather(DataConfig(**config), FrontEnd())


def test_a_name_is_looked_for_here_and_then_on_the_shelf(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert data_root() == shelf
    assert locate("one") == shelf / "one"
    assert locate(str(shelf / "two")) == shelf / "two"
    assert locate("three") is None
    (tmp_path / "one").mkdir()
    assert locate("one") == Path("one")
    monkeypatch.delenv("METAVOX_DATA")
    assert data_root() is None
    assert locate("two") is None


@pytest.mark.parametrize("name", ["three", "no/such/folder", "nul\0byte", "x" * 5000])
def test_what_is_nowhere_is_refused_with_the_remedy(name: str) -> None:
    with pytest.raises(InputError, match="give the path of a folder"):
        require(name)


def test_the_sentence_says_whether_metavox_data_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("METAVOX_DATA")
    with pytest.raises(InputError, match=r"METAVOX_DATA \(not set\)"):
        require("three")


def test_corpora_are_joined_in_the_order_given(shelf: Path) -> None:
    bank = open_corpora([shelf / "two", shelf / "one"], FrontEnd())
    assert [u.corpus for u in bank.utterances] == ["two"] * 6 + ["one"] * 6


def test_progress_names_what_is_done(shelf: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    open_corpora([shelf / "one", shelf / "two"], FrontEnd(), lambda *args: seen.append(args))
    assert seen[-1] == ("features", 12, 12)


def test_everything_a_recipe_names_is_gathered_and_what_is_absent_is_told() -> None:
    found = gathered(corpora=["two", "absent_here", "one"])
    assert [u.corpus for u in found.bank.utterances] == ["two"] * 6 + ["one"] * 6
    assert found.absent == ("absent_here",)
    assert not found.is_synthetic.any()


def test_a_path_that_does_not_exist_is_not_skipped() -> None:
    with pytest.raises(InputError, match=r"\./absent"):
        gathered(corpora=["one", "./absent"])


def test_corpora_are_left_out() -> None:
    found = gathered(corpora=["two", "one"], leave_out_corpora=["two"])
    assert {u.corpus for u in found.bank.utterances} == {"one"}
    with pytest.raises(InputError, match=r"data\.leave_out_corpora names three, which is in neither data\.corpora nor"):
        gathered(corpora=["two", "one"], leave_out_corpora=["three"])


def test_a_corpus_cannot_come_twice(shelf: Path) -> None:
    """Its clips would be in support and query at once."""
    for corpora in (["one", "two", "one"], ["one", str(shelf / "one")], ["one", str(shelf / "two" / ".." / "one")]):
        with pytest.raises(InputError, match="twice"):
            gathered(corpora=corpora)
    with pytest.raises(InputError, match="twice"):
        open_corpora([shelf / "one", shelf / "one"], FrontEnd())


def test_nothing_to_learn_from_is_refused() -> None:
    for config in ({}, {"corpora": ["absent"]}, {"corpora": ["one"], "leave_out_corpora": ["one"]}):
        with pytest.raises(InputError, match="set METAVOX_DATA"):
            gathered(**config)


def test_an_unknown_key_of_the_synthetic_words_names_its_neighbour() -> None:
    with pytest.raises(InputError, match=r"unknown key n_word; did you mean n_words\?"):
        gathered(synth={"n_word": 3})


@pytest.mark.synth
def test_synthetic_words_are_marked() -> None:
    pytest.importorskip("espeakng_loader")
    pytest.importorskip("babel")
    found = gathered(corpora=["one"], synth={"languages": ["sw"], "n_words": 2, "n_voices": 1})
    assert found.is_synthetic.tolist() == [False] * 6 + [True] * 2
    np.testing.assert_array_equal([u.corpus == "one" for u in found.bank.utterances], ~found.is_synthetic)


def test_there_is_a_core() -> None:
    assert n_cores() >= 1


def test_variants_are_asked_for_where_they_are_drawn(shelf: Path) -> None:
    assert asked_variants(AugmentConfig(), 3) is None
    assert asked_variants(AugmentConfig(variants=2, enabled=False), 3) is None
    assert asked_variants(AugmentConfig(variants=2, variant_share=0), 3) is None
    config = AugmentConfig(variants=2, noise=("one",))
    asked = asked_variants(config, 3)
    assert asked == Variants(2, config.wave, 3, (shelf / "one",))
    with pytest.raises(InputError, match=r"augment\.noise names rain, which is no folder or file here nor in METAVOX"):
        asked_variants(AugmentConfig(variants=2, noise=("one", "rain")), 3)


def test_what_is_gathered_has_the_variants_asked_for() -> None:
    seen: list[tuple[str, int, int]] = []
    asked = Variants(1, WaveConfig(codec_share=0.0))
    found = gather(DataConfig(corpora=("two", "one")), FrontEnd(), lambda *args: seen.append(args), asked)
    assert found.bank.n_variants == 1
    assert ("features", 6, 6) in seen
    assert seen[-1] == ("variants", 12, 12)


def test_words_are_cut_from_sentences_once_and_join_the_real_recordings(shelf: Path, tmp_path: Path) -> None:
    """Four people say the same three words in a row, with pauses; no language, so energy and length decide."""
    rows, quiet = [], np.zeros(sounds.RATE_HZ // 3)
    for speaker in sounds.SPEAKERS:
        for take in range(2):
            waves = [part for word in sounds.WORDS[:3] for part in (sounds.say(word, speaker, take), quiet)]
            wave = np.concatenate([quiet, *waves])
            wave += 1e-3 * np.random.default_rng(take).standard_normal(len(wave))
            path = tmp_path / "told" / "audio" / f"{speaker}{take}.wav"
            sounds.write(path, wave.astype(np.float32))
            facts = {"text": " ".join(sounds.WORDS[:3]), "speaker": speaker}
            rows.append({"audio_filepath": f"audio/{path.name}", "duration": len(wave) / sounds.RATE_HZ, **facts})
    lines = [json.dumps(row) + "\n" for row in rows]
    (tmp_path / "told" / "manifest.jsonl").write_text("".join(lines))
    told = str(tmp_path / "told")
    found = gathered(corpora=["one"], sentences=[told])
    cut = [u for u in found.bank.utterances if u.corpus == "told-words"]
    assert {u.label for u in cut} == set(sounds.WORDS[:3])
    assert {u.speaker for u in cut} == set(sounds.SPEAKERS)
    assert not found.is_synthetic.any()
    where = {u.path for u in cut}
    assert {u.path for u in gathered(sentences=[told]).bank.utterances} == where
    lines[0] = lines[0].replace('"speaker": "anna"', '"speaker": "anne"')
    (tmp_path / "told" / "manifest.jsonl").write_text("".join(lines))
    assert not where & {u.path for u in gathered(sentences=[told]).bank.utterances}
    with pytest.raises(InputError, match="twice"):
        gathered(corpora=[told], sentences=[told])
    assert gathered(corpora=["one"], sentences=[told], leave_out_corpora=[told]).bank.utterances == one_alone()


def one_alone() -> list[Utterance]:
    return gathered(corpora=["one"]).bank.utterances
