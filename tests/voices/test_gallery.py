"""Who of the enrolled it is, or nobody: Bayes' rule, made-up people, very many voices, real people."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import said
from voicing import voice_model

from metavox.audio import read
from metavox.calibration.ratios import Ratios, fit_ratios
from metavox.data.manifests import load_corpus
from metavox.voices.classical import MfccStatistics
from metavox.voices.furnishing import furnish
from metavox.voices.gallery import Gallery, StoredGallery, posteriors
from metavox.voices.heard import Heard, together
from metavox.voices.models import VoiceModel
from metavox.voices.scoring import template, unit


@settings(max_examples=50, deadline=None)
@given(
    llr=st.lists(st.floats(-300, 300), min_size=1, max_size=8),
    p_known=st.floats(0.01, 0.99),
)
def test_probabilities_are_those_of_bayes_rule(llr: list[float], p_known: float) -> None:
    chances, nobody = posteriors(np.array([llr]), p_known)
    assert chances.sum() + nobody.sum() == pytest.approx(1)
    moderate = np.clip(llr, -30, 30)
    chances, nobody = posteriors(moderate[None], p_known)
    by_hand = np.append(p_known / len(llr) * np.exp(moderate), 1 - p_known)
    assert np.append(chances[0], nobody) == pytest.approx(by_hand / by_hand.sum())


@pytest.mark.parametrize("n_voices", [5, 20, 80, 1000])
def test_false_names_do_not_become_more_with_the_gallery(n_voices: int) -> None:
    """Ratios that are calibrated: scores N(d, 1) and N(0, 1), so llr = d s - d^2 / 2."""
    rng, distance = np.random.default_rng(0), 3.0
    n_tests = 3000 if n_voices < 1000 else 500
    scores = rng.standard_normal((n_tests, n_voices))
    chances, _ = posteriors(distance * scores - distance**2 / 2)
    assert np.mean(chances.max(axis=1) >= 0.5) < 0.13
    scores[:, 0] += distance
    known, nobody = posteriors(distance * scores - distance**2 / 2)
    everyone = np.concatenate([chances.max(axis=1), known.max(axis=1)])  # half are known, as the prior says
    right = np.concatenate([np.zeros(n_tests), known.argmax(axis=1) == 0])
    for low in (0.3, 0.6, 0.8):
        among = (everyone >= low) & (everyone < low + 0.2)
        if among.sum() > 100:
            assert np.mean(right[among]) == pytest.approx(everyone[among].mean(), abs=0.1)
    assert nobody.shape == (n_tests,)


def clips(people: range, n: int, seed: int = 0, spread: float = 0.12) -> list[Heard]:
    """The clips of each of some people as vectors about a direction of their own."""
    found = []
    for person in people:
        own, now = np.random.default_rng([3, person]), np.random.default_rng([5, person, seed])
        vectors = unit(unit(own.standard_normal(40)) + spread * now.standard_normal((n, 40)))
        found.append(Heard(vectors, np.full(n, 2.0), np.full(n, 20.0)))
    return found


def calibrated() -> VoiceModel:
    """Of people 1000 to 1059, with people 2000 to 2039 as cohort."""
    cohort = np.concatenate([one.vectors for one in clips(range(2000, 2040), 1)])
    model = VoiceModel(MfccStatistics(), "directions", "", cohort, None)
    voices, tests = clips(range(1000, 1060), 3), together(clips(range(1000, 1060), 1, seed=1))
    scores, same = model.scores(voices, tests), np.eye(60, dtype=bool)
    return model.with_ratios(fit_ratios({"score": scores[same]}, {"score": scores[~same]}))


def test_people_are_named_and_strangers_are_not() -> None:
    model = calibrated()
    gallery = Gallery(model, {f"p{k}": voice for k, voice in enumerate(clips(range(30), 3))})
    own = gallery.identify(together(clips(range(30), 1, seed=2)))
    others = gallery.identify(together(clips(range(500, 560), 1, seed=2)))
    assert np.mean([one.name == f"p{k}" for k, one in enumerate(own)]) > 0.6
    assert np.mean([one.name is None for one in others]) > 0.9
    for one in own + others:
        assert len(one.names) == 5
        assert list(one.probabilities) == sorted(one.probabilities, reverse=True)
        assert sum(one.probabilities) + one.unknown <= 1 + 1e-9
        assert (one.name is None) == (one.unknown >= one.probabilities[0])
    surer = gallery.identify(together(clips(range(30), 1, seed=2)), p_known=0.99)
    assert all(one.unknown < other.unknown for one, other in zip(surer, own, strict=True))


@pytest.mark.parametrize(
    "weights",
    [
        {"score": 2.0},
        {
            "score": 1.5,
            "test_log_s": -0.5,
            "enrolled_log_s": 0.3,
            "test_snr": 0.2,
            "enrolled_snr": -0.1,
            "score_by_test_log_s": 0.4,
            "score_by_enrolled_log_s": 0.3,
        },
    ],
)
@pytest.mark.parametrize("with_cohort", [True, False])
def test_a_stored_gallery_says_the_same(weights: dict[str, float], with_cohort: bool) -> None:
    model = voice_model().with_ratios(Ratios(weights, -1.0))
    if not with_cohort:
        model = replace(model, cohort=model.cohort[:0])
    rng = np.random.default_rng(0)

    def people(n: int, k: int) -> Heard:
        return Heard(unit(rng.standard_normal((n * k, 40))), rng.uniform(0.3, 5, n * k), rng.uniform(5, 60, n * k))

    voices = {f"v{place}": people(1, 1 + place % 3) for place in range(300)}
    tests = people(4, 1)
    plain = Gallery(model, voices).identify(tests, p_known=0.7, top=4)
    for one, other in zip(StoredGallery.of(model, voices).identify(tests, p_known=0.7, top=4), plain, strict=True):
        assert one.llr == pytest.approx(other.llr, abs=0.02)  # and the names, but for those that are about as near
        assert one.names[0] == other.names[0]
        assert one.unknown == pytest.approx(other.unknown, rel=0.02)
        assert one.probabilities == pytest.approx(other.probabilities, rel=0.03)


def test_names_in_many_scripts_come_back_and_vectors_may_lie_on_the_disk(tmp_path: Path) -> None:
    model = calibrated()
    names = ["", "Ada", "李明", "a\nb", "മലയാളം", "x" * 300]
    voices = clips(range(len(names)), 3)
    table = np.stack([template(voice) for voice in voices])
    where = {"in memory": None, "on the disk": tmp_path / "index"}
    for folder in where.values():
        gallery = StoredGallery(model, names, table, np.full(6, 6.0), np.full(6, 20.0), folder=folder)
        found = gallery.identify(together(clips(range(len(names)), 1, seed=2)))
        assert [one.names[0] for one in found] == names


def test_what_cannot_be_identified_is_refused() -> None:
    model, voices = calibrated(), dict(zip("ab", clips(range(2), 3), strict=True))
    tests = together(clips(range(2), 1, seed=1))
    assert "empty" in said(lambda: Gallery(model, {}))
    assert "empty" in said(lambda: StoredGallery.of(model, {}))
    assert "p_known is 1" in said(lambda: Gallery(model, voices).identify(tests, p_known=1.0))
    assert "1 or more" in said(lambda: Gallery(model, voices).identify(tests, top=0))
    bare = replace(model, ratios=None)
    for kind in (Gallery(bare, voices), StoredGallery.of(bare, voices)):
        assert "no calibration" in said(lambda kind=kind: kind.identify(tests))  # type: ignore[misc]
    table = np.eye(2, 40, dtype=np.float32)
    assert "comes twice" in said(lambda: StoredGallery(model, ["a", "a"], table, np.ones(2), np.ones(2)))


@pytest.mark.real
def test_real_strangers_are_not_named_more_often_in_a_larger_gallery(data_root: Path) -> None:
    by: dict[str, list[np.ndarray]] = {}
    for utterance in load_corpus(data_root / "speechocean_en_l2"):
        assert utterance.speaker is not None
        if len(found := by.setdefault(utterance.speaker, [])) < 3 and len(by) <= 80:
            found.append(read(utterance.path))
    people = [found for _, found in sorted(by.items()) if found]
    order = np.random.default_rng(0).permutation(len(people))
    encoder = MfccStatistics()
    made = furnish(encoder, [people[k] for k in order[:22]], 0)
    model = VoiceModel(encoder, "mfcc", "", made.cohort, made.ratios)
    strangers = model.hear([clip for k in order[22:36] for clip in people[k][:2]])
    enrolled = {f"s{k}": model.hear(people[k][:2]) for k in order[36:]}
    own = model.hear([people[k][2] for k in order[36:41]])
    false = []
    for n_voices in (5, 20, 44):
        gallery = Gallery(model, dict(list(enrolled.items())[:n_voices]))
        false.append(np.mean([one.probabilities[0] >= 0.5 for one in gallery.identify(strangers)]))
        right = [one.names[0] == f"s{k}" for one, k in zip(gallery.identify(own), order[36:41], strict=True)]
        assert np.mean(right) >= 0.6
    assert max(false) < 0.15
    assert false[2] <= false[0] + 0.05
