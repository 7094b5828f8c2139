"""What is enrolled changes word by word, without the recordings: every change can be undone, saved and made again."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sounds
import torch

from metavox.checkpoint import NEGATIVES, Model, build, load_model, save_model, write_tensors
from metavox.config import EncoderConfig, LearnerConfig, ModelConfig
from metavox.contracts import FrontEnd, InputError
from metavox.learners.metric import as_levels
from metavox.profiles import load_profile
from metavox.profiles.contents import N_EARLIER
from metavox.runtime import commands, enrolment
from metavox.runtime.commands import CommandRecognizer
from metavox.runtime.negatives import negatives_in

RATE = sounds.RATE_HZ
HOUSE, OTHERS = sounds.WORDS[:3], sounds.WORDS[6:9]
CONFIG = ModelConfig(
    front_end=FrontEnd(n_mels=20, n_frames=32, normalize=False),
    encoder=EncoderConfig(channels=16, blocks=1, dim=8),
    learner=LearnerConfig(match="soft"),
)
REFERENCE = {"target": [-1.0, 2.0, 3.0], "nontarget": [-8.0, -7.0]}


def takes(words: tuple[str, ...], first: int = 0, n: int = 2) -> tuple[list[Any], list[str]]:
    pairs = [((sounds.say(word, "anna", take), RATE), word) for word in words for take in range(first, first + n)]
    return [clip for clip, _ in pairs], [word for _, word in pairs]


NEW, _ = takes((*HOUSE, *OTHERS), first=5, n=1)


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Words that nobody enrols, of several people."""
    words = [f"word{number}" for number in range(30)]
    return sounds.word_folders(tmp_path_factory.mktemp("talk"), words, sounds.SPEAKERS, 1)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, talk: Path) -> Path:
    """A model with drawn weights that brings negatives."""
    folder = tmp_path_factory.mktemp("exp") / "small"
    about = {"reference": {"1": REFERENCE}, "negatives": {"hours": 0.02}}
    save_model(folder, build(CONFIG, seed=3), CONFIG, about)
    found = negatives_in([talk], load_model(folder))
    write_tensors(
        folder / NEGATIVES,
        {"frames": as_levels(found.frames.float()), "lengths": found.lengths, "groups": found.groups},
    )
    return folder


@pytest.fixture
def house(bundle: Path) -> CommandRecognizer:
    return CommandRecognizer.from_pretrained(bundle).fit(*takes(HOUSE))


def seen(house: CommandRecognizer) -> Any:
    """All that can be asked of it."""
    kept = (house.labels_, house.calibration_, house.expected_refusals_, house.revision_, house.n_takes_)
    return (*kept, house.decide(NEW), house.predict_proba(NEW).tolist(), [take.key for take in house.takes_])


# ------------------------------------------------------------------------------------------------------ the threshold


def test_the_threshold_keeps_its_promise_on_the_negatives_of_the_model(house: CommandRecognizer) -> None:
    calibration = house.calibration_
    promise = calibration.promise
    assert promise is not None
    assert (calibration.source, promise.negatives, promise.hours) == ("negatives", "model", 0.02)
    assert (promise.target, promise.n_negatives, promise.n_recordings) == (0.05, 120, 120)
    assert promise.n_alarms <= promise.bound * promise.n_negatives <= 0.05 * promise.n_negatives
    found = commands.chosen(None, house.model_)
    assert found is not None
    scores = found.scores(house.model_.learner, house.state_).amax(1)
    assert int((scores >= calibration.threshold).sum()) == promise.n_alarms


def test_negatives_of_a_user_come_before_those_of_the_model(bundle: Path, talk: Path) -> None:
    for given in (talk, str(talk), [talk], negatives_in([talk], load_model(bundle))):
        house = CommandRecognizer(bundle, negatives=given).fit(*takes(HOUSE))
        assert house.calibration_.promise is not None
        assert house.calibration_.promise.negatives == str(talk)


def test_without_a_target_or_negatives_the_threshold_is_balanced(bundle: Path, talk: Path) -> None:
    clips, words = takes(HOUSE)
    balanced = CommandRecognizer(bundle, target=None).fit(clips, words)
    assert balanced.calibration_.source == "both"
    assert balanced.calibration_.promise is None
    assert CommandRecognizer("dtw").fit(clips, words).calibration_.source == "enrolment"
    assert CommandRecognizer("dtw", negatives=talk).fit(clips[:1], words[:1]).calibration_.source == "negatives"


def test_what_the_promise_costs_is_told(bundle: Path) -> None:
    costs = []
    for target in (0.5, 0.2, 0.03):
        house = CommandRecognizer(bundle, target=target).fit(*takes(HOUSE, n=4))
        scores = house.model_.learner.leave_one_out(house.state_).detach().numpy()
        own = scores[np.arange(12), house.state_["labels"].numpy()]
        assert house.expected_refusals_ == np.mean(own < house.calibration_.threshold)
        costs.append(house.expected_refusals_)
    assert costs == sorted(costs)
    assert CommandRecognizer(bundle).fit(*takes(HOUSE, n=1)).expected_refusals_ is None


def test_a_target_that_the_data_cannot_support_changes_nothing(house: CommandRecognizer) -> None:
    before = seen(house)
    clips, words = takes(OTHERS)
    for changed, said in (
        ({"target": 0.001}, "needs at least [0-9]+ negatives"),
        ({"target": 0.01, "per_hour": True}, r"needs at least 300 hours .*you gave 0\.02"),
        ({"target": 2.0}, "give a share between 0 and 1"),
        ({"confidence": 0.1}, "The confidence is 0.1"),
        ({"negatives": "nowhere"}, "nowhere do not exist"),
    ):
        house.set_params(**{"target": 0.05, "per_hour": False, "confidence": 0.95, "negatives": None, **changed})
        for change in (
            house.recalibrate,
            lambda: house.add(words[0], clips[:1]),
            lambda: house.remove(HOUSE[0]),
            lambda: house.fit(clips, words),
        ):
            with pytest.raises(InputError, match=said):
                change()
            assert seen(house) == before
    house.set_params(target=0.2, confidence=0.9, negatives=None).recalibrate()
    assert house.calibration_.promise is not None
    assert house.calibration_.promise.target == 0.2
    assert house.calibration_.threshold < before[1].threshold


# ------------------------------------------------------------------------------------------------------------ changes

CHANGES: dict[str, Callable[[CommandRecognizer], Any]] = {
    "add a word": lambda house: house.add(OTHERS[0], takes(OTHERS[:1])[0]),
    "add takes": lambda house: house.add(HOUSE[1], takes(HOUSE[1:2], first=8)[0]),
    "remove": lambda house: house.remove(HOUSE[1]),
    "rename": lambda house: house.rename(HOUSE[0], "light on"),
    "recalibrate": lambda house: house.set_params(target=0.3).recalibrate(),
    "fit": lambda house: house.fit(*takes(OTHERS)),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("saved", [False, True])
def test_every_change_can_be_undone(house: CommandRecognizer, tmp_path: Path, name: str, saved: bool) -> None:
    before = seen(house)
    assert CHANGES[name](house) is house
    after = seen(house)
    assert after != before
    assert house.revision_ == 2
    if saved:
        house.save_pretrained(tmp_path / "p")
        house = CommandRecognizer.from_pretrained(tmp_path / "p")
        assert seen(house) == after
    house.undo()
    assert seen(house) == before
    if saved:
        house.save_pretrained(tmp_path / "p")
        assert seen(CommandRecognizer.from_pretrained(tmp_path / "p")) == before
    with pytest.raises(InputError, match="Revision 1 is the first that is remembered"):
        house.undo()
    assert seen(house) == before


def test_changes_are_undone_one_by_one_from_a_folder(house: CommandRecognizer, tmp_path: Path) -> None:
    states = [seen(house)]
    for change in ("add a word", "rename", "remove", "add takes"):
        CHANGES[change](house)
        states.append(seen(house))
    house.save_pretrained(tmp_path / "p")
    for state in reversed(states):
        again = CommandRecognizer.from_pretrained(tmp_path / "p")
        assert seen(again) == state
        if state is not states[0]:
            again.undo().save_pretrained(tmp_path / "p")


def test_history_is_bounded_and_can_be_forgotten(house: CommandRecognizer, tmp_path: Path) -> None:
    for number in range(N_EARLIER + 3):
        house.rename(house.labels_[0], f"name {number}")
    house.save_pretrained(tmp_path / "p")
    assert len(load_profile(tmp_path / "p").earlier) == N_EARLIER
    house.remove(HOUSE[1]).save_pretrained(tmp_path / "p", history=False)
    assert set(sounds.files_below(tmp_path / "p")) == {"profile.json", "state.safetensors", "takes.safetensors"}
    assert HOUSE[1] not in (tmp_path / "p" / "profile.json").read_text()
    with pytest.raises(InputError, match="nothing to undo"):
        CommandRecognizer.from_pretrained(tmp_path / "p").undo()
    house.undo()  # the object itself remembers


def test_removing_and_adding_again_equals_fitting_in_that_order(house: CommandRecognizer, bundle: Path) -> None:
    back, _ = takes(HOUSE[:1])
    house.remove(HOUSE[0]).add(HOUSE[0], back)
    whole = CommandRecognizer(bundle).fit(*takes((*HOUSE[1:], HOUSE[0])))
    assert seen(house)[4:] == seen(whole)[4:]
    assert house.calibration_ == whole.calibration_
    assert all(torch.equal(value, whole.state_[name]) for name, value in house.state_.items())


def test_renaming_keeps_the_scores(house: CommandRecognizer) -> None:
    before, proba = house.decide(NEW), house.predict_proba(NEW, refusal=True)
    house.rename(HOUSE[0], "灯")
    after = house.decide(NEW)
    for one, other in zip(before, after, strict=True):
        assert list(one.scores.values()) == list(other.scores.values())
        assert other.label == ("灯" if one.label == HOUSE[0] else one.label)
    order = [list(house.classes_).index("灯" if word == HOUSE[0] else word) for word in sorted(HOUSE)]
    assert np.array_equal(proba, house.predict_proba(NEW, refusal=True)[:, [*order, -1]])
    assert {take.word for take in house.takes_} == {"灯", *HOUSE[1:]}


@pytest.mark.parametrize("at", ["state_of", "judged", "save_profile"])
def test_a_failure_at_any_step_leaves_object_and_folder(
    house: CommandRecognizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    house.save_pretrained(tmp_path / "p")
    before, files = seen(house), sounds.files_below(tmp_path)

    def fails(*args: Any, **options: Any) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(commands, at, fails)
    for name, change in CHANGES.items():
        if at == "save_profile":
            with pytest.raises(RuntimeError):
                house.save_pretrained(tmp_path / "p")
        elif name not in ("rename", *(["recalibrate"] if at == "state_of" else [])):
            with pytest.raises(RuntimeError):
                change(house)
    assert seen(house) == before
    assert sounds.files_below(tmp_path) == files


# ------------------------------------------------------------------------------------------------- takes and the model


def test_what_is_kept_of_a_take_says_where_it_is_from(bundle: Path, tmp_path: Path) -> None:
    clip = sounds.write(tmp_path / "secret folder" / "a take.wav", sounds.say("tula"))
    house = CommandRecognizer(bundle).fit([clip, (sounds.say("rime"), RATE)], ["tula", "rime"])
    house.add("febe", [(sounds.say("febe"), RATE)], synthetic=True)
    facts = [(take.name, take.word, take.source) for take in house.takes_]
    assert facts == [("a take.wav", "tula", "file"), ("array", "rime", "array"), ("array", "febe", "synthetic")]
    assert house.takes_[0].duration_s == pytest.approx(len(sounds.say("tula")) / RATE)
    marked = CommandRecognizer(bundle).fit(*takes(HOUSE[:1]), synthetic=[True, False])
    assert [take.source for take in marked.takes_] == ["synthetic", "array"]
    house.save_pretrained(tmp_path / "p")
    assert not any(b"secret folder" in content for content in sounds.files_below(tmp_path / "p").values())


def test_recordings_are_kept_when_asked(bundle: Path, tmp_path: Path) -> None:
    house = CommandRecognizer(bundle, keep_audio=True).fit(*takes(HOUSE))
    house.save_pretrained(tmp_path / "p")
    assert len(list((tmp_path / "p" / "audio").iterdir())) == 6
    again = CommandRecognizer.from_pretrained(tmp_path / "p")
    assert again.keep_audio
    for take, (samples, _) in zip(again.takes_, takes(HOUSE)[0], strict=True):
        assert np.array_equal(take.audio, np.round(samples * 32768).astype(np.int16))
    assert seen(again) == seen(house)
    CommandRecognizer.from_pretrained(tmp_path / "p", keep_audio=False).save_pretrained(tmp_path / "p")
    assert not (tmp_path / "p" / "audio").exists()
    CommandRecognizer.from_pretrained(tmp_path / "p").add(*_added(OTHERS[0]))


def _added(word: str) -> tuple[str, list[Any]]:
    return word, takes((word,))[0]


def test_takes_go_behind_another_model_that_hears_alike(house: CommandRecognizer) -> None:
    before = seen(house)
    config = CONFIG.model_copy(update={"front_end": FrontEnd(n_mels=20, n_frames=40, normalize=True)})
    other = Model(build(config, seed=9), config, "other", "9", {"reference": {"1": REFERENCE}})
    moved = house.with_model(other)
    fresh = CommandRecognizer(other).fit(*takes(HOUSE))
    assert seen(moved)[4:] == seen(fresh)[4:]
    assert seen(house) == before
    with pytest.raises(InputError, match="nothing to undo"):
        moved.undo()


def test_a_model_that_hears_otherwise_needs_the_recordings(house: CommandRecognizer, bundle: Path) -> None:
    with pytest.raises(InputError, match=r"Model dtw hears .* without their recordings; enrol again"):
        house.with_model("dtw")
    kept = CommandRecognizer(bundle, keep_audio=True).fit(*takes(HOUSE))
    moved = kept.with_model("dtw")
    fresh = CommandRecognizer("dtw").fit(*takes(HOUSE))
    scores, same = moved._scores(NEW), fresh._scores(NEW)
    torch.testing.assert_close(scores, same, atol=0.05, rtol=0)  # the recordings are kept as 16 bits
    assert moved.labels_ == fresh.labels_


def test_another_model_starts_anew(bundle: Path) -> None:
    house = CommandRecognizer(bundle).fit(*takes(HOUSE)).set_params(model="dtw").fit(*takes(HOUSE))
    assert (house.model_.name, house.revision_) == ("dtw", 2)
    with pytest.raises(InputError, match="nothing to undo"):
        house.undo()


def test_options_are_kept_and_can_be_given_anew(bundle: Path, talk: Path, tmp_path: Path) -> None:
    house = CommandRecognizer(bundle, target=0.1, confidence=0.9, negatives=talk).fit(*takes(HOUSE))
    house.save_pretrained(tmp_path / "p")
    again = CommandRecognizer.from_pretrained(tmp_path / "p")
    assert (again.target, again.per_hour, again.confidence, again.negatives) == (0.1, False, 0.9, (str(talk),))
    assert seen(again.add(*_added(OTHERS[0]))) == seen(house.add(*_added(OTHERS[0])))
    other = CommandRecognizer.from_pretrained(tmp_path / "p", target=0.2, negatives=None)
    assert other.calibration_.promise is not None
    assert other.calibration_.promise.target == 0.1
    other.recalibrate()
    assert (other.calibration_.promise.target, other.calibration_.promise.negatives) == (0.2, "model")


def test_a_profile_with_a_bundled_model_names_it(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metavox.checkpoint.BUNDLED", bundle.parent)
    house = CommandRecognizer("metavox/small").fit(*takes(HOUSE))
    house.save_pretrained(tmp_path / "p")
    document = json.loads((tmp_path / "p" / "profile.json").read_text())
    assert (document["model"], document["model_name"]) == (None, "metavox/small")
    assert seen(CommandRecognizer.from_pretrained(tmp_path / "p")) == seen(house)
    with pytest.raises(InputError, match="metavox/large is no bundled model; there are metavox/small"):
        CommandRecognizer("metavox/large").fit(*takes(HOUSE))


def test_more_than_a_profile_holds_is_refused(house: CommandRecognizer, monkeypatch: pytest.MonkeyPatch) -> None:
    before = seen(house)
    monkeypatch.setattr(enrolment, "MAX_TAKES", 7)
    with pytest.raises(InputError, match="8 takes of 4 words were given; a profile holds at most 7"):
        house.add(*_added(OTHERS[0]))
    assert seen(house) == before


# -------------------------------------------------------------------------------------------------------------- real


@pytest.mark.real
def test_real_words_refuse_other_real_speech_at_the_rate_that_was_asked(data_root: Path) -> None:
    from metavox.data.manifests import load_corpus

    words: dict[str, list[Path]] = {}
    for utterance in load_corpus(data_root / "fsdd_en_digits"):
        words.setdefault(str(utterance.label), []).append(utterance.path)
    known = sorted(words)[:5]
    others = [u.path for u in load_corpus(data_root / "hebrew_yesno")]
    model = load_model("dtw")
    first, second = others[::2], others[1::2]
    house = CommandRecognizer(model, target=0.25, negatives=first)
    house.fit([path for word in known for path in words[word][:5]], [word for word in known for _ in range(5)])
    found = negatives_in(second, model)
    accepted = (found.scores(model.learner, house.state_).amax(1) >= house.calibration_.threshold).float().mean()
    assert house.calibration_.promise is not None
    assert house.calibration_.promise.bound <= 0.25
    assert float(accepted) <= 0.25
