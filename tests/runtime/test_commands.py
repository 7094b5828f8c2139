"""A user's own words: enrolled, recognised, refused, added, removed, saved and loaded."""

import hashlib
import json
import shutil
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sounds
import torch

from metavox.calibration import calibrate, enrolment_scores
from metavox.checkpoint import Model, build, load_model, save_model, write_tensors
from metavox.config import EncoderConfig, LearnerConfig, ModelConfig
from metavox.contracts import FrontEnd, InputError, State
from metavox.profiles import digest_of
from metavox.runtime.commands import CommandRecognizer, nearest_reference

RATE = sounds.RATE_HZ
HOUSE = sounds.WORDS[:4]
OTHERS = sounds.WORDS[6:10]


def takes(words: tuple[str, ...], speaker: str = "anna", first: int = 0, n: int = 3) -> tuple[list[Any], list[str]]:
    pairs = [((sounds.say(word, speaker, take), RATE), word) for word in words for take in range(first, first + n)]
    return [clip for clip, _ in pairs], [word for _, word in pairs]


@pytest.fixture(scope="module")
def dtw() -> Model:
    return load_model("dtw")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that looks like a trained model; its weights are drawn, which is enough to store and to compare."""
    config = ModelConfig(
        front_end=FrontEnd(n_mels=20, n_frames=32, normalize=False),
        encoder=EncoderConfig(channels=16, blocks=1, dim=8),
        learner=LearnerConfig(match="soft"),
    )
    folder = tmp_path_factory.mktemp("exp") / "small"
    reference = {"target": [-1.0, 2.0, 3.0], "nontarget": [-8.0, -7.0]}
    save_model(folder, build(config, seed=3), config, {"reference": {"1": reference, "3": reference}})
    return folder


@pytest.fixture
def house(dtw: Model) -> CommandRecognizer:
    return CommandRecognizer(dtw).fit(*takes(HOUSE))


def states_equal(a: State, b: State) -> None:
    """But for padding: a longer take may have come and gone."""
    assert a.keys() == b.keys()
    for name in a:
        x, y = a[name], b[name]
        if name == "takes":
            n = min(x.shape[2], y.shape[2])
            assert n >= int(a["lengths"].max())
            assert not x[:, :, n:].any()
            assert not y[:, :, n:].any()
            x, y = x[:, :, :n], y[:, :, :n]
        torch.testing.assert_close(x, y, atol=1e-5, rtol=1e-5)


# ------------------------------------------------------------------------------------------------- fit and predict


def test_new_takes_are_recognised_and_unknown_words_refused(house: CommandRecognizer) -> None:
    clips, words = takes(HOUSE, first=5)
    assert house.predict(clips) == words
    unknown, _ = takes(OTHERS, first=5)
    assert house.predict(unknown) == [None] * len(unknown)
    assert house.labels_ == HOUSE
    assert house.n_takes_ == dict.fromkeys(HOUSE, 3)


def test_fit_returns_self_and_forgets_what_was_before(house: CommandRecognizer) -> None:
    assert house.fit(*takes(OTHERS)) is house
    assert house.labels_ == OTHERS
    clips, words = takes(OTHERS, first=5, n=1)
    assert house.predict(clips) == words


def test_the_threshold_rests_on_the_enrolment(house: CommandRecognizer) -> None:
    target, nontarget = enrolment_scores(house.model_.learner, house.state_)
    assert house.calibration_ == calibrate(target, nontarget)
    assert house.calibration_.source == "enrolment"
    assert (house.calibration_.n_target, house.calibration_.n_nontarget) == (12, 12)


def test_a_decision_tells_all(house: CommandRecognizer) -> None:
    clips, words = takes(HOUSE[:1], first=5, n=1)
    (decision,) = house.decide(clips)
    assert decision.label == decision.best == words[0]
    assert set(decision.scores) == set(HOUSE)
    assert decision.score == max(decision.scores.values()) >= decision.threshold == house.calibration_.threshold


def test_who_else_is_recognised_does_not_matter(house: CommandRecognizer) -> None:
    clips, _ = takes(HOUSE, first=7, n=1)
    together = house.decide(clips)
    for clip, decision in zip(clips, together, strict=True):
        (alone,) = house.decide([clip])
        assert alone.label == decision.label
        assert alone.score == pytest.approx(decision.score, abs=1e-4)
    assert house.decide([]) == []


def test_paths_arrays_rates_and_channels_can_be_mixed(dtw: Model, tmp_path: Path) -> None:
    clips: list[Any] = []
    words = []
    for word in HOUSE:
        clips.append(sounds.write(tmp_path / f"{word}.wav", sounds.say(word)))
        clips.append(str(sounds.write(tmp_path / f"{word}.flac", sounds.say(word, take=1, rate_hz=44_100), 44_100)))
        wave = sounds.say(word, take=2, rate_hz=48_000)
        clips.append((np.stack([wave, wave], 1), 48_000))
        words += [word] * 3
    house = CommandRecognizer(dtw).fit(clips, words)
    new, said = takes(HOUSE, first=5)
    assert house.predict(new) == said


def test_one_take_a_word_is_enough_for_a_model_that_knows_its_scores(trained: Path) -> None:
    house = CommandRecognizer.from_pretrained(trained).fit(*takes(HOUSE, n=1))
    assert house.calibration_.source == "both"
    alone = CommandRecognizer.from_pretrained(trained).fit(*takes(HOUSE[:1], n=1))
    assert alone.calibration_.source == "model"
    assert len(alone.predict(takes(HOUSE)[0])) == 12


def test_the_reference_nearest_to_the_takes_a_word_is_used() -> None:
    about = {"reference": {"1": {"target": [1.0]}, "3": {"target": [3.0]}, "5": {"target": [5.0]}}}
    found = [nearest_reference(about, n) for n in (1.0, 1.5, 2.5, 4.5, 40.0)]
    assert [reference["target"][0] for reference in found if reference] == [1.0, 1.0, 3.0, 5.0, 5.0]
    assert nearest_reference({}, 3.0) is None


def test_the_model_is_left_as_it_was(dtw: Model, house: CommandRecognizer) -> None:
    before = deepcopy(dtw.learner.state_dict())
    house.add("more", takes(OTHERS[:1])[0]).remove("more").predict(takes(HOUSE)[0])
    assert all(torch.equal(value, dtw.learner.state_dict()[name]) for name, value in before.items())


@pytest.mark.real
def test_real_words_are_enrolled_and_recognised(dtw: Model, data_root: Path) -> None:
    from metavox.data.manifests import load_corpus

    by_word: dict[str, list[Path]] = {}
    utterances = load_corpus(data_root / "fsdd_en_digits")
    for utterance in utterances:
        if utterance.speaker == utterances[0].speaker and utterance.label:
            by_word.setdefault(utterance.label, []).append(utterance.path)
    known = sorted(by_word)[:5]
    clips = [path for word in known for path in by_word[word][:4]]
    house = CommandRecognizer(dtw).fit(clips, [word for word in known for _ in range(4)])
    new = [(path, word) for word in known for path in by_word[word][4:10]]
    heard = house.decide([path for path, _ in new])
    right = [h.label == word for h, (_, word) in zip(heard, new, strict=True)]
    wrong = [h.label not in (word, None) for h, (_, word) in zip(heard, new, strict=True)]
    assert np.mean([h.best == word for h, (_, word) in zip(heard, new, strict=True)]) > 0.85
    assert np.mean(right) > 0.5
    assert np.mean(wrong) < 0.1


# ----------------------------------------------------------------------------------------------- words come and go


@pytest.mark.parametrize("which", ["dtw", "trained"])
def test_adding_equals_enrolling_all_at_once(which: str, dtw: Model, trained: Path) -> None:
    model = dtw if which == "dtw" else load_model(trained)
    clips, words = takes((*HOUSE, *OTHERS[:1]))
    whole = CommandRecognizer(model).fit(clips, words)
    grown = CommandRecognizer(model).fit(clips[:6], words[:6])
    for i in range(6, len(clips), 3):
        grown.add(words[i], clips[i : i + 3])
    assert grown.labels_ == whole.labels_
    states_equal(grown.state_, whole.state_)
    assert grown.calibration_ == whole.calibration_


def test_more_takes_of_a_known_word_are_added_to_it(house: CommandRecognizer, dtw: Model) -> None:
    more, _ = takes(HOUSE[:1], first=10, n=2)
    clips, words = takes(HOUSE)
    whole = CommandRecognizer(dtw).fit([*clips, *more], [*words, HOUSE[0], HOUSE[0]])
    house.add(HOUSE[0], more)
    assert house.n_takes_ == {**dict.fromkeys(HOUSE, 3), HOUSE[0]: 5}
    states_equal(house.state_, whole.state_)


@pytest.mark.parametrize("word", HOUSE)
def test_removing_equals_never_having_enrolled(house: CommandRecognizer, dtw: Model, word: str) -> None:
    clips, words = takes(HOUSE)
    rest = [(clip, w) for clip, w in zip(clips, words, strict=True) if w != word]
    whole = CommandRecognizer(dtw).fit([clip for clip, _ in rest], [w for _, w in rest])
    house.remove(word)
    assert house.labels_ == whole.labels_
    states_equal(house.state_, whole.state_)
    assert house.calibration_.threshold == pytest.approx(whole.calibration_.threshold, abs=1e-4)
    assert word not in house.predict(clips)


def test_adding_and_removing_comes_back(house: CommandRecognizer) -> None:
    before = dict(house.state_)
    house.add("new", takes(OTHERS[:1])[0]).remove("new")
    states_equal(house.state_, before)
    assert house.labels_ == HOUSE


# --------------------------------------------------------------------------------------------- what is refused


def snapshot(house: CommandRecognizer) -> Any:
    return house.labels_, house.calibration_, {name: value.clone() for name, value in house.state_.items()}


def same(a: Any, b: Any) -> bool:
    return a[:2] == b[:2] and all(torch.equal(a[2][name], b[2][name]) for name in a[2])


def test_a_failure_leaves_the_recogniser_as_it_was(house: CommandRecognizer, tmp_path: Path) -> None:
    before = snapshot(house)
    good, words = takes(OTHERS[:2])
    silent = (np.zeros(RATE, np.float32), RATE)
    for action, said in (
        (lambda: house.fit([], []), "No take was given"),
        (lambda: house.fit(good, words[:-1]), "6 clips were given with 5 words"),
        (lambda: house.fit([*good, silent], [*words, "quiet"]), "is silent"),
        (lambda: house.fit([*good, tmp_path / "gone.wav"], [*words, "gone"]), "does not exist"),
        (lambda: house.fit([*good, (sounds.say("tula")[:800], RATE)], [*words, "short"]), "lasts 0.05 s"),
        (lambda: house.fit(good[:1], words[:1]), "record two takes of two words"),
        (lambda: house.fit([good[0], good[3]], [words[0], words[3]]), "record two takes of two words"),
        (lambda: house.add("more", []), "No take of 'more' was given"),
        (lambda: house.add("more", [silent]), "is silent"),
        (lambda: house.remove("unheard"), "'unheard' is not enrolled; enrolled are tula, rime, sakko, febe"),
        (lambda: house.rename("unheard", "x"), "'unheard' is not enrolled"),
        (lambda: house.rename(HOUSE[0], HOUSE[1]), f"'{HOUSE[1]}' is already enrolled"),
        (lambda: house.rename(HOUSE[0], ""), "cannot name a word"),
        (lambda: house.fit(good, [None] * 6), "name the word of each take"),
        (lambda: house.add("a\nb", good), "cannot name a word"),
        (lambda: house.add("a" * 101, good), "1 to 100 characters"),
        (lambda: house.add("long", [(np.tile(sounds.say("tula"), 60), RATE)]), "is one word of at most 30 s"),
        (lambda: house.score(good, words[:-1]), "6 clips were given with 5 words"),
        (lambda: house.set_params(targets=1), "no parameter 'targets'"),
        (lambda: house.predict([silent]), "is silent"),
    ):
        with pytest.raises(InputError, match=said):
            action()
        assert same(snapshot(house), before)
    assert house.predict(takes(HOUSE, first=5, n=1)[0]) == list(HOUSE)


def test_the_last_words_cannot_be_removed(house: CommandRecognizer, trained: Path) -> None:
    house.remove(HOUSE[0]).remove(HOUSE[1])
    before = snapshot(house)
    with pytest.raises(InputError, match="a threshold needs both"):
        house.remove(HOUSE[2])  # one word alone has no other words to be told from
    assert same(snapshot(house), before)
    alone = CommandRecognizer.from_pretrained(trained).fit(*takes(HOUSE[:1]))
    with pytest.raises(InputError, match="is the only enrolled word; delete the profile instead"):
        alone.remove(HOUSE[0])


@pytest.mark.parametrize("use", ["predict", "decide", "add", "remove", "save", "profile", "takes"])
def test_nothing_can_be_done_before_fit(dtw: Model, tmp_path: Path, use: str) -> None:
    house = CommandRecognizer(dtw)
    with pytest.raises(InputError, match="Nothing is enrolled yet; call fit"):
        {
            "predict": lambda: house.predict(takes(HOUSE)[0]),
            "decide": lambda: house.decide([]),
            "add": lambda: house.add("a", takes(HOUSE)[0]),
            "remove": lambda: house.remove("a"),
            "save": lambda: house.save_pretrained(tmp_path / "p"),
            "profile": lambda: house.profile_,
            "takes": lambda: house.n_takes_,
        }[use]()
    assert not (tmp_path / "p").exists()


def test_a_failed_first_fit_leaves_nothing_enrolled(dtw: Model) -> None:
    house = CommandRecognizer(dtw)
    with pytest.raises(InputError, match="record two takes"):
        house.fit(*takes(HOUSE, n=1))
    with pytest.raises(InputError, match="Nothing is enrolled yet"):
        house.predict(takes(HOUSE)[0])


@pytest.mark.parametrize("name", ["fomaml", "nearest_mean"])
def test_learners_that_cannot_gain_a_word_are_refused(name: str) -> None:
    config = ModelConfig(learner=LearnerConfig(name=name), encoder=EncoderConfig(channels=16, blocks=1))
    house = CommandRecognizer(Model(build(config), config, "m", "0", {}))
    with pytest.raises(InputError, match=f"learns by {name}.*learner.name=prototypes"):
        house.fit(*takes(HOUSE))


# ------------------------------------------------------------------------------------------------- save and load


def test_a_profile_decides_as_the_recogniser_that_wrote_it(trained: Path, tmp_path: Path) -> None:
    house = CommandRecognizer.from_pretrained(str(trained)).fit(*takes(HOUSE))
    house.save_pretrained(str(tmp_path / "house"))
    again = CommandRecognizer.from_pretrained(tmp_path / "house")
    assert (again.labels_, again.calibration_, again.n_takes_) == (house.labels_, house.calibration_, house.n_takes_)
    clips, _ = takes((*HOUSE, *OTHERS), first=5, n=1)
    assert again.decide(clips) == house.decide(clips)
    again.add("new", takes(OTHERS[:1])[0])  # words come without the recordings of the others
    assert again.labels_ == (*HOUSE, "new")
    assert again.profile_.model_hash == house.model_.hash


def test_a_profile_of_a_baseline_needs_no_folder(house: CommandRecognizer, tmp_path: Path) -> None:
    house.save_pretrained(tmp_path / "house")
    again = CommandRecognizer.from_pretrained(tmp_path / "house")
    clips, words = takes(HOUSE, first=5, n=1)
    assert again.predict(clips) == words


def test_a_profile_is_kilobytes_and_holds_no_audio(trained: Path, tmp_path: Path) -> None:
    clips, words = takes(HOUSE, n=3)
    house = CommandRecognizer.from_pretrained(trained).fit(clips, words)
    house.save_pretrained(tmp_path / "house")
    content = sounds.files_below(tmp_path / "house")
    n_bytes = sum(len(value) for value in content.values())
    assert n_bytes < 10_000 * len(clips)  # three views of each take, and the frames that they are made of
    assert n_bytes < 0.6 * sum(2 * len(samples) for samples, _ in clips)
    for value in content.values():
        for samples, _ in clips:
            for kind in (np.float32, np.float64):
                assert samples[4000:4040].astype(kind).tobytes() not in value
            assert np.round(samples[4000:4040] * 32768).astype(np.int16).tobytes() not in value
    document = json.loads(content["profile.json"])
    assert [take["word"] for take in document["takes"]] == words
    assert document["labels"] == list(HOUSE)


def signed(path: Path, document: dict[str, Any]) -> None:
    """Write a document as if it had been saved so, with the files that are there."""
    for name in document["files"]:
        content = (path.parent / name).read_bytes()
        document["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    path.write_text(json.dumps({**document, "digest": digest_of(document)}))


def test_a_profile_of_another_version_of_a_baseline_is_refused(house: CommandRecognizer, tmp_path: Path) -> None:
    house.save_pretrained(tmp_path / "house")
    path = tmp_path / "house" / "profile.json"
    document = json.loads(path.read_text())
    signed(path, {**document, "model_hash": "0" * 64})
    with pytest.raises(InputError, match="was made with another dtw; enrol again"):
        CommandRecognizer.from_pretrained(tmp_path / "house")
    signed(path, {**document, "model_name": "dtw2"})
    with pytest.raises(InputError, match="dtw2 holds no model"):
        CommandRecognizer.from_pretrained(tmp_path / "house")


def test_neither_a_model_nor_a_profile_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no model"):
        CommandRecognizer.from_pretrained(tmp_path)
    with pytest.raises(InputError, match="holds no model"):
        CommandRecognizer.from_pretrained("x" * 3000)


@pytest.mark.parametrize(
    "damage", ["another state", "a value gone", "other shape", "label beyond", "labels moved", "fewer labels"]
)
def test_a_state_that_does_not_fit_its_profile_is_refused(trained: Path, tmp_path: Path, damage: str) -> None:
    house = CommandRecognizer.from_pretrained(trained).fit(*takes(HOUSE))
    house.save_pretrained(tmp_path / "house")
    state = dict(house.state_)
    path = tmp_path / "house" / "profile.json"
    if damage == "another state":
        state = {"weights": torch.zeros(3)}
    elif damage == "a value gone":
        del state["within"]
    elif damage == "other shape":
        state["takes"] = state["takes"][..., :-1].contiguous()
    elif damage == "label beyond":
        state["labels"] = state["labels"] + 1
    elif damage == "labels moved":
        state["labels"] = state["labels"].roll(1)
    document = json.loads(path.read_text())
    if damage == "fewer labels":
        document["labels"] = document["labels"][:-1]
        document["takes"] = [take for take in document["takes"] if take["word"] in document["labels"]]
    write_tensors(tmp_path / "house" / "state.safetensors", state)
    signed(path, document)
    with pytest.raises(InputError, match=r"does not fit its profile\.json and model; enrol again"):
        CommandRecognizer.from_pretrained(tmp_path / "house")


def test_a_profile_and_its_model_can_move_together_or_apart(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "a" / "model")
    house = CommandRecognizer.from_pretrained(tmp_path / "a" / "model").fit(*takes(HOUSE))
    house.save_pretrained(tmp_path / "a" / "house")
    shutil.move(tmp_path / "a", tmp_path / "b")
    again = CommandRecognizer.from_pretrained(tmp_path / "b" / "house")
    shutil.move(tmp_path / "b" / "model", tmp_path / "c")
    with pytest.raises(InputError, match="--model"):
        CommandRecognizer.from_pretrained(tmp_path / "b" / "house")
    named = CommandRecognizer.from_pretrained(tmp_path / "b" / "house", model=str(tmp_path / "c"))
    clips, _ = takes(HOUSE, first=5, n=1)
    assert named.decide(clips) == again.decide(clips) == house.decide(clips)
