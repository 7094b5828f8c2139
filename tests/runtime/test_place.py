"""A profile adapts to a place: what is kept of it, what it changes, and what goes wrong."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sounds
import torch
from refusals import said

from metavox.augment.wave import coloured_noise, mix
from metavox.checkpoint import Model, build, load_model, save_model
from metavox.contracts import FrontEnd, InputError, Place
from metavox.runtime.commands import CommandRecognizer
from metavox.runtime.place import VIEW_SNRS_DB, noisy_views, place_of

RATE = sounds.RATE_HZ
WORDS = sounds.WORDS[:6]


def noise(seconds: float, seed: int = 0, colour: str = "brown") -> np.ndarray:
    return np.float32(0.02) * coloured_noise(round(seconds * RATE), colour, np.random.default_rng(seed))


def in_noise(word: str, speaker: str, take: int, snr_db: float = 0.0) -> Any:
    """A clip with the word in noise that is as loud as ``noise``."""
    wave = sounds.say(word, speaker, take)
    first = round(0.4 * RATE)
    padded = np.pad(wave, first)
    rng = np.random.default_rng(take)
    mixed = mix(padded, RATE, noise(5.0, 9), RATE, snr_db, rng, span=(first, first + len(wave)))
    return mixed * np.float32(0.02 / np.sqrt(np.mean(np.square(mixed - padded)))), RATE


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Cepstra compared by alignment, in windows of one length; nothing is trained."""
    dtw = load_model("dtw").config
    config = dtw.model_copy(update={"front_end": dtw.front_end.model_copy(update={"n_frames": 64})})
    folder = tmp_path_factory.mktemp("exp") / "cepstra"
    save_model(folder, build(config), config, {})
    return load_model(folder)


@pytest.fixture
def house(model: Model) -> CommandRecognizer:
    pairs = [((sounds.say(word, "anna", take), RATE), word) for word in WORDS for take in range(3)]
    return CommandRecognizer(model, target=None).fit([clip for clip, _ in pairs], [word for _, word in pairs])


def margin(house: CommandRecognizer, clips: list[Any], words: list[str]) -> float:
    """By how much the word that was said is above the best of the others, on average."""
    rows = [(word, dict(one.scores)) for one, word in zip(house.decide(clips), words, strict=True)]
    return float(np.mean([scores.pop(word) - max(scores.values()) for word, scores in rows]))


def test_a_noisy_word_is_heard_better_and_a_quiet_one_as_well(house: CommandRecognizer) -> None:
    asked = [(word, take) for word in WORDS for take in range(5, 8)]
    words = [word for word, _ in asked]
    noisy = [in_noise(word, "anna", take) for word, take in asked]
    quiet = [(sounds.say(word, "anna", take), RATE) for word, take in asked]
    before, before_quiet = margin(house, noisy, words), margin(house, quiet, words)
    assert house.adapt_to_place([(noise(3.0), RATE)]) is house
    assert house.place_ is not None
    assert house.place_.duration_s == pytest.approx(3.0)
    assert margin(house, noisy, words) > before + 0.4
    assert margin(house, quiet, words) > before_quiet - 0.3
    assert house.score(quiet, words) == 1


def test_adapting_can_be_undone_and_forgotten(house: CommandRecognizer) -> None:
    clips = [in_noise(word, "anna", 5) for word in WORDS]
    before, threshold = house.decide(clips), house.calibration_
    house.adapt_to_place([(noise(2.0), RATE)])
    assert [one.scores for one in house.decide(clips)] != [one.scores for one in before]
    assert house.state_["takes"].shape[1] == 1 + len(VIEW_SNRS_DB)
    house.undo()
    assert (house.place_, house.calibration_, house.decide(clips)) == (None, threshold, before)
    house.adapt_to_place([(noise(2.0), RATE)]).adapt_to_place(None)
    assert (house.place_, house.calibration_, house.decide(clips)) == (None, threshold, before)


def test_words_that_come_and_go_are_adapted_too(house: CommandRecognizer) -> None:
    house.adapt_to_place([(noise(2.0), RATE)])
    clips = [in_noise(word, "anna", 5) for word in WORDS]
    before = house.decide(clips)
    house.add("zetta", [(sounds.say("zetta", "anna", take), RATE) for take in range(2)])
    assert house.place_ is not None
    assert house.state_["takes"].shape[1] == 1 + len(VIEW_SNRS_DB)
    house.remove("zetta")
    for one, other in zip(house.decide(clips), before, strict=True):
        assert one.scores == pytest.approx(other.scores, abs=1e-4)


def test_a_place_is_saved_with_the_profile_and_with_its_history(house: CommandRecognizer, tmp_path: Path) -> None:
    clips = [in_noise(word, "anna", 5) for word in WORDS]
    house.adapt_to_place([(noise(2.0), RATE)])
    at_first = house.decide(clips)
    house.adapt_to_place([(noise(2.0, 4, "white"), RATE)])
    house.save_pretrained(tmp_path / "house")
    again = CommandRecognizer.from_pretrained(tmp_path / "house")
    assert again.place_ == house.place_
    assert again.decide(clips) == house.decide(clips)
    again.undo()
    for one, other in zip(again.decide(clips), at_first, strict=True):
        assert one.scores == pytest.approx(other.scores, abs=1e-4)
    assert again.undo().place_ is None


def test_a_refused_place_changes_nothing(house: CommandRecognizer) -> None:
    revision, state = house.revision_, house.state_
    with pytest.raises(InputError):
        house.adapt_to_place([(noise(0.2), RATE)])
    assert (house.revision_, house.place_) == (revision, None)
    assert house.state_ is state


def test_what_is_no_noise_is_told(tmp_path: Path) -> None:
    front_end = FrontEnd()
    assert "No noise of a place was given" in said(lambda: place_of([], front_end))
    assert "0.5 s of the noise of the place were given" in said(lambda: place_of([(noise(0.5), RATE)], front_end))
    quiet = 1e-3 * noise(2.0)
    assert "is silent" in said(lambda: place_of([(quiet, RATE)], front_end))
    assert "is silent" in said(lambda: place_of([(np.zeros(RATE, np.float32), RATE)], front_end))
    (tmp_path / "empty").mkdir()
    assert "holds no recording" in said(lambda: place_of([tmp_path / "empty"], front_end))
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF")
    assert str(broken) in said(lambda: place_of([broken], front_end))


def test_files_folders_and_arrays_are_the_same_place(tmp_path: Path) -> None:
    front_end, wave = FrontEnd(), noise(2.0)
    wave = np.round(wave * 32768).astype(np.float32) / 32768
    path = sounds.write(tmp_path / "noise" / "one.wav", wave)
    found = [place_of(clips, front_end) for clips in ([path], [tmp_path / "noise"], [str(path)], [(wave, RATE)])]
    assert found == [found[0]] * 4
    other = place_of([(np.repeat(wave, 3), 3 * RATE)], front_end)
    assert np.abs(np.subtract(other.power_db, found[0].power_db))[:30].max() < 1


def test_a_model_of_windows_of_any_length_cannot_adapt(model: Model) -> None:
    clips = [(sounds.say(word, "anna", take), RATE) for word in WORDS[:2] for take in range(2)]
    house = CommandRecognizer("dtw", target=None).fit(clips, [word for word in WORDS[:2] for _ in range(2)])
    noises = [(noise(2.0), RATE)]
    assert "windows of any length" in said(lambda: house.adapt_to_place(noises))
    assert "Nothing is enrolled yet" in said(lambda: CommandRecognizer("dtw").adapt_to_place(noises))


def test_a_place_goes_with_the_takes_to_another_model(house: CommandRecognizer) -> None:
    house.adapt_to_place([(noise(2.0), RATE)])
    assert house.with_model(house.model_).place_ == house.place_


def test_views_follow_from_the_take_alone() -> None:
    takes = [torch.from_numpy(np.random.default_rng(i).normal(5, 3, (40 + i, 40))).half() for i in range(3)]
    views = noisy_views(takes, FrontEnd())
    assert [len(view) for view in views] == [3] * len(VIEW_SNRS_DB)
    alone = noisy_views(takes[1:2], FrontEnd())
    assert all(torch.equal(one[0], all_of[1]) for one, all_of in zip(alone, views, strict=True))
    assert all(torch.isfinite(values).all() for view in views for values in view)


def test_a_place_holds_numbers_and_no_sound() -> None:
    place = place_of([(noise(4.0), RATE)], FrontEnd())
    assert isinstance(place, Place)
    assert len(place.power_db) == 40
    assert place.low_db < 0 < place.high_db
