"""A whole adaptation: what is measured on whom, what is kept, and that it can be used afterwards."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import tonal
import torch

from metavox.contracts import InputError, State, Transcribed, Utterance
from metavox.data.manifests import load_corpus
from metavox.data.sentences import open_sentences
from metavox.learners.sequence import Look
from metavox.text.symbols import UNIVERSAL
from metavox.transcription import adaptation, load_recogniser
from metavox.transcription.adaptation import Options, adapt_recogniser
from metavox.transcription.adapting import Plan, heard
from metavox.transcription.guard import old_task_error, read_guard
from metavox.transcription.keeping import save_kept
from metavox.transcription.models import Recognition
from metavox.transcription.outcome import Adaptation
from metavox.transcription.scoring import errors_of
from metavox.transcription.spelling import Search

BRIEF = replace(tonal.PLAN, tuning=replace(tonal.PLAN.tuning, steps=2))
"""Too few steps to learn anything."""


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("adaptation")
    tonal.base_folder(root / "base")
    tonal.corpus(root / "new", tonal.texts(24, 3), dialect=True, speakers=list("vwxyz"))
    tonal.corpus(root / "test", tonal.texts(12, 4), dialect=True, seed=400)
    tonal.corpus(root / "more", tonal.texts(14, 5), dialect=True, seed=600, written=[""] * 14)
    return root


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METAVOX_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def adapt(shelf: Path, cache: None) -> Callable[..., Adaptation]:
    def call(
        corpus: str | list[Utterance] = "new", plan: Plan = tonal.PLAN, base: Any = None, **options: Any
    ) -> Adaptation:
        utterances = load_corpus(shelf / corpus) if isinstance(corpus, str) else corpus
        return adapt_recogniser(base or load_recogniser(shelf / "base"), utterances, plan, Options(**options))

    return call


def error(recognition: Recognition, corpus: Path) -> float:
    """Character error on a whole corpus."""
    found = open_sentences([corpus], recognition.symbols, recognition.front_end)
    return errors_of(heard(recognition, found, np.arange(len(found))), found.utterances).rate


@pytest.fixture(scope="module")
def course(shelf: Path) -> tuple[Adaptation, list[tuple[Any, ...]]]:
    """The first adaptation to the dialect, and what was told on the way."""
    told: list[tuple[Any, ...]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("METAVOX_CACHE", str(shelf / "cache"))
        base = load_recogniser(shelf / "base")
        untouched = {name: value.clone() for name, value in base.net.state_dict().items()}
        utterances = load_corpus(shelf / "new")
        found = adapt_recogniser(base, utterances, tonal.PLAN, report=lambda *said: told.append(said))
    assert all(torch.equal(value, untouched[name]) for name, value in base.net.state_dict().items())
    return found, told


def test_a_recogniser_learns_the_dialect_and_says_so(
    shelf: Path, course: tuple[Adaptation, list[tuple[Any, ...]]], cache: None, tmp_path: Path
) -> None:
    found, told = course
    assert error(load_recogniser(shelf / "base"), shelf / "test") > 0.5
    assert error(found.recognition, shelf / "test") < 0.1
    held = found.held_out
    assert held is not None
    assert found.helped
    assert held.by == "speaker"
    assert held.before.rate > 0.5
    assert held.after.rate < 0.2
    assert (found.n, found.steps, found.kept_share) == (24, tonal.PLAN.tuning.steps, 1.0)
    seconds = sum(u.duration_s for u in load_corpus(shelf / "new"))
    assert found.speech_s == pytest.approx(seconds, rel=0.05)
    assert found.real_time_share == found.seconds / found.speech_s
    assert found.forgetting is not None
    assert found.forgetting.share == 1.0
    assert found.forgetting.after.rate > found.forgetting.before.rate + 0.2
    assert {"features", "trying", "adapting"} <= {said[0] for said in told}
    assert any("loss" in said[3] for said in told if said[0] == "adapting")

    # What is stored is what was measured, to the last value.
    n_bytes = save_kept(tmp_path / "out", found.recognition)
    again = load_recogniser(tmp_path / "out")
    assert n_bytes == found.part_bytes
    assert again.report == {key: value for key, value in found.to_json().items() if key != "suggestions"}
    for name, value in found.recognition.net.state_dict().items():
        assert torch.allclose(again.net.state_dict()[name], value, atol=1e-6)
    guard = read_guard(shelf / "base")
    assert guard is not None
    assert old_task_error(again, guard).char_edits.tolist() == found.forgetting.after.char_edits.tolist()


def test_the_same_seed_gives_the_same_and_minutes_take_less(adapt: Callable[..., Adaptation]) -> None:
    one, two = (adapt(plan=BRIEF, minutes=0.3, seed=5) for _ in range(2))
    assert one.speech_s < 0.4 * 60
    assert {k: v for k, v in one.to_json().items() if k not in ("seconds", "real_time_share")} == {
        k: v for k, v in two.to_json().items() if k not in ("seconds", "real_time_share")
    }
    values = [found.recognition.net.state_dict() for found in (one, two)]
    assert all(torch.equal(values[0][name], values[1][name]) for name in values[0])


def test_values_stay_where_adaptation_did_not_help(
    shelf: Path, adapt: Callable[..., Adaptation], monkeypatch: pytest.MonkeyPatch
) -> None:
    bias = load_recogniser(shelf / "base").net.head.bias.detach().clone()
    bias[0] += 100  # from now on everything is silence
    monkeypatch.setattr("metavox.transcription.adaptation.adapt", lambda *_: {"head.bias": bias})
    found = adapt()
    assert found.held_out is not None
    assert found.held_out.after.rate == 1.0
    assert found.helped is False
    assert found.kept_share == 0.0
    base = load_recogniser(shelf / "base").net.state_dict()
    assert all(torch.equal(value, base[name]) for name, value in found.recognition.net.state_dict().items())
    assert found.forgetting is not None
    assert found.to_json()["old_tasks_cer_change"] == 0
    assert found.part_bytes < 1_000


@pytest.mark.parametrize("refit", [True, False])
def test_a_trial_hears_a_part_and_the_result_all_for_as_many_steps(
    course: tuple[Adaptation, list[tuple[Any, ...]]],
    adapt: Callable[..., Adaptation],
    shelf: Path,
    monkeypatch: pytest.MonkeyPatch,
    refit: bool,
) -> None:
    good = course[0].recognition.net.state_dict()
    calls: list[tuple[int, Plan]] = []

    def learn(base: Recognition, support: Transcribed, plan: Plan, watch: Callable[[Look], None]) -> State:
        calls.append((len(support), plan))
        if plan.held_out:
            for step, loss in ((10, 0.5), (20, 0.3), (40, 0.4)):
                watch(Look(step, 40, 1.0, loss))
        return {name: value.clone() for name, value in good.items()}

    monkeypatch.setattr("metavox.transcription.adaptation.adapt", learn)
    found = adapt(plan=replace(tonal.PLAN, held_out=0.25, refit=refit), unlabelled=shelf / "more", seed=9)
    assert found.held_out is not None
    n_rest = 24 - len(found.held_out.before)
    learned = found.self_training
    assert learned is not None
    assert learned.accepted  # the values are the same
    assert [n for n, _ in calls] == [n_rest, n_rest + learned.n_kept, *([24 + learned.n_kept] if refit else [])]
    assert all(plan.tuning.seed == 9 and not plan.refit for _, plan in calls)
    assert [plan.held_out for _, plan in calls] == [0.25, *([0.0] * (len(calls) - 1))]
    steps = [plan.tuning.steps for _, plan in calls]
    assert steps[0] == tonal.PLAN.tuning.steps
    assert 20 < steps[1] == steps[-1] == found.steps <= 40
    ratio = 1 + learned.kept_s / (found.speech_s * n_rest / 24)
    assert steps[1] == pytest.approx(20 * min(2.0, ratio), abs=1.5)


def test_few_recordings_are_learned_from_without_a_measurement(shelf: Path, adapt: Callable[..., Adaptation]) -> None:
    found = adapt(load_corpus(shelf / "new")[:4], plan=BRIEF)
    assert found.helped is None
    assert found.held_out is None
    assert found.to_json()["cer_before"] is None
    base = load_recogniser(shelf / "base").net.state_dict()
    assert any(not torch.equal(value, base[name]) for name, value in found.recognition.net.state_dict().items())


def test_a_limit_on_forgetting_keeps_less(
    shelf: Path, course: tuple[Adaptation, list[tuple[Any, ...]]], adapt: Callable[..., Adaptation]
) -> None:
    found = adapt(max_forgetting=50.0)
    known = found.forgetting
    assert known is not None
    assert 0 < known.share < 1
    assert known.after.rate - known.before.rate <= 0.5
    assert found.kept_share == known.share
    start, whole = load_recogniser(shelf / "base").net.state_dict(), course[0].recognition.net.state_dict()
    for name, value in found.recognition.net.state_dict().items():  # on the line, to the steps of the storage
        step = (whole[name] - start[name]).abs().max() / 100
        assert torch.allclose(value, torch.lerp(start[name], whole[name], known.share), atol=float(step) + 1e-6)


def test_a_base_without_a_guard_says_nothing_of_forgetting(
    shelf: Path, adapt: Callable[..., Adaptation], tmp_path: Path
) -> None:
    found = adapt(plan=BRIEF, base=tonal.base_folder(tmp_path / "bare", guard=False), max_forgetting=1.0)
    assert found.forgetting is None
    assert found.to_json()["old_tasks_n"] == 0


CYRILLIC = str.maketrans("bdfhkm", "бдфхкм")


def test_a_native_alphabet_is_learned_and_kept(shelf: Path, adapt: Callable[..., Adaptation], tmp_path: Path) -> None:
    corpora = {
        name: tonal.corpus(
            tmp_path / name, said, seed=seed, lang="ru", written=[text.translate(CYRILLIC) for text in said]
        )
        for name, said, seed in (("ru", tonal.texts(24, 11), 50), ("test", tonal.texts(8, 12), 90))
    }
    found = adapt(load_corpus(corpora["ru"]), alphabet="native")
    assert set(found.recognition.symbols.characters) == set(" бдфхкм")
    assert found.held_out is not None
    assert found.held_out.after.rate < 0.2
    assert found.forgetting is not None  # the body with the old head
    save_kept(tmp_path / "out", found.recognition)
    again = load_recogniser(tmp_path / "out")
    assert again.symbols == found.recognition.symbols
    assert error(again, corpora["test"]) < 0.2

    # From there on: letters are added, others keep their rows, and the part still belongs to the first base.
    more = [replace(u, text=u.text.replace("б", "щ")) for u in load_corpus(corpora["ru"])]
    further = adapt(more, plan=BRIEF, base=again)
    assert further.recognition.symbols.characters == (*again.symbols.characters, "щ")
    assert further.recognition.base is not None
    assert further.recognition.base.symbols == UNIVERSAL
    save_kept(tmp_path / "out", further.recognition)
    assert error(load_recogniser(tmp_path / "out"), corpora["test"]) < 0.3


def test_an_adapted_recogniser_goes_on_from_where_it_is(
    shelf: Path,
    course: tuple[Adaptation, list[tuple[Any, ...]]],
    adapt: Callable[..., Adaptation],
    tmp_path: Path,
) -> None:
    save_kept(tmp_path / "first", course[0].recognition)
    second = adapt(plan=BRIEF, base=load_recogniser(tmp_path / "first"), seed=1)
    assert second.held_out is not None
    assert second.held_out.before.rate < 0.2
    save_kept(tmp_path / "second", second.recognition)
    (tmp_path / "first").rename(tmp_path / "gone")
    assert error(load_recogniser(tmp_path / "second"), shelf / "test") < 0.2


def test_untranscribed_recordings_are_learned_from_and_suggested(
    shelf: Path, adapt: Callable[..., Adaptation], tmp_path: Path
) -> None:
    for place in (shelf / "more").glob("*.wav"):
        (tmp_path / "mixed").mkdir(exist_ok=True)
        (tmp_path / "mixed" / place.name).write_bytes(place.read_bytes())
    (tmp_path / "mixed" / "own.wav").write_bytes((shelf / "new" / "000.wav").read_bytes())
    soundfile.write(tmp_path / "mixed" / "silence.wav", np.zeros(32_000), 16_000)
    found = adapt(unlabelled=tmp_path / "mixed", suggest=3)
    learned = found.self_training
    assert learned is not None
    assert (learned.n_pieces, learned.n_known, len(learned.skipped)) == (14, 1, 1)
    assert 3 <= learned.n_kept <= 14
    assert found.helped
    if learned.accepted:
        assert tonal.PLAN.tuning.steps < found.steps <= 2 * tonal.PLAN.tuning.steps
    json = found.to_json()
    assert json["unlabelled_used"] is learned.accepted
    assert len(found.suggestions) == len(json["suggestions"]) == 3
    assert all(Path(each["path"]).parent == tmp_path / "mixed" for each in json["suggestions"])
    assert error(found.recognition, shelf / "test") < 0.1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"lang": "klingon"}, "no language code"),
        ({"suggest": 2}, "--unlabelled"),
        ({"suggest": -1}, "1 or more"),
        ({"max_forgetting": -1.0}, "allow 0 or more"),
        ({"minutes": 100.0}, "ask for at most"),
        ({"unlabelled": Path("nowhere")}, "is no folder"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_before_anything_is_learned(
    adapt: Callable[..., Adaptation], monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], sentence: str
) -> None:
    monkeypatch.setattr("metavox.transcription.adaptation.adapt", None)
    with pytest.raises(InputError, match=sentence):
        adapt(**options)


def test_a_language_given_holds_for_all_rows(adapt: Callable[..., Adaptation], shelf: Path) -> None:
    found = adapt(plan=BRIEF, lang="th")  # written without blanks between words
    assert found.held_out is not None
    assert found.held_out.before.wer() is None
    assert found.to_json()["wer_after"] is None


# ----------------------------------------------------------------------------------------------------------- spelling

SEARCHING = replace(tonal.PLAN, search=Search(order=3, beam=3, tempos=(1.0,)))


def test_the_language_model_of_a_trial_knows_nothing_of_what_is_held_out(
    shelf: Path, adapt: Callable[..., Adaptation], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No text that is measured on is searched with; what is kept in the end knows all of them."""
    heard_with: list[tuple[Recognition, set[tuple[int, ...]]]] = []

    def listening(recognition: Recognition, sentences: Any, positions: Any, *more: Any) -> Any:
        heard_with.append((recognition, {tuple(sentences.targets[i]) for i in positions}))
        return heard(recognition, sentences, positions, *more)

    monkeypatch.setattr(adaptation, "heard", listening)
    found = adapt(plan=SEARCHING)
    searched = [(one.spelling, said) for one, said in heard_with if one.spelling is not None]
    assert len(searched) == 1
    spelling, held = searched[0]
    assert not held & set(spelling.texts)
    kept = found.recognition.spelling
    assert kept is not None
    assert set(kept.texts) == set(spelling.texts) | held
    assert len(kept.texts) == 24


def test_what_goes_on_from_an_adapted_recogniser_keeps_what_it_knew(
    shelf: Path, adapt: Callable[..., Adaptation], tmp_path: Path
) -> None:
    first = adapt(plan=SEARCHING).recognition
    save_kept(tmp_path / "first", first)
    again = adapt("test", SEARCHING, load_recogniser(tmp_path / "first")).recognition
    assert first.spelling is not None
    assert again.spelling is not None
    assert again.spelling.texts[:24] == first.spelling.texts
    assert len(again.spelling.texts) in (24, 36)  # all of them, unless it did not help


def test_what_did_not_help_spells_as_before(adapt: Callable[..., Adaptation]) -> None:
    plan = replace(SEARCHING, tuning=replace(BRIEF.tuning, lr=10.0))  # whatever the precision, all is wrong then
    found = adapt(plan=plan)
    assert found.helped is False
    assert found.recognition.spelling is None
