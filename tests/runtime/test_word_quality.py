"""Checks of takes among each other: outliers, copies, words too close, single takes, and nothing where all is well."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import sounds
import torch
from torch import Tensor

from metavox.contracts import State
from metavox.data.manifests import load_corpus
from metavox.losses import leave_one_out_scores
from metavox.runtime.commands import CommandRecognizer
from metavox.runtime.take_quality import Finding
from metavox.runtime.word_quality import word_findings

DIM = 40


class Cosines:
    """A learner that compares takes of one frame."""

    def similarity(self, query: Tensor, _: Tensor, takes: Tensor, __: Tensor) -> Tensor:
        return query[:, 0] @ takes[:, 0, 0].T


class ScoresOnly:
    """One that cannot be asked how alike two takes are."""

    def leave_one_out(self, state: State) -> Tensor:
        alike = Cosines().similarity(state["takes"][:, 0], state["lengths"], state["takes"], state["lengths"])
        return 40 * leave_one_out_scores(alike, state["labels"], int(state["labels"].max()) + 1)


def takes_of(words: Sequence[int], counts: Sequence[int], seed: int = 0, spread: float = 0.65) -> Tensor:
    """Unit vectors around a direction for each number; the same number is the same word."""
    rng = np.random.default_rng(seed)
    rows = []
    for word, n in zip(words, counts, strict=True):
        centre = np.random.default_rng([seed, word]).standard_normal(DIM)
        centre /= np.linalg.norm(centre)
        rows.append(centre + spread * rng.standard_normal((n, DIM)) / np.sqrt(DIM))
    found = torch.from_numpy(np.concatenate(rows))
    return found / found.norm(dim=1, keepdim=True)


def judged(frames: Tensor, counts: Sequence[int], learner: object | None = None) -> list[Finding]:
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    lengths = torch.ones(len(labels), dtype=torch.int64)
    state = {"takes": frames[:, None, None], "lengths": lengths, "labels": labels}
    words = [f"word{i}" for i in range(len(counts))]
    return word_findings(learner or Cosines(), state, words, [f"take{i}" for i in range(len(labels))])


@pytest.mark.parametrize("seed", range(5))
def test_words_that_are_well_apart_give_no_finding(seed: int) -> None:
    counts = [5, 3, 5, 2]
    assert judged(takes_of(range(4), counts, seed), counts) == []


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("learner", [Cosines(), ScoresOnly()])
def test_a_take_under_the_wrong_word_is_named_with_the_right_one(seed: int, learner: object) -> None:
    counts = [5, 5, 5]
    frames = takes_of(range(3), counts, seed)
    frames[2] = takes_of([1], [20], seed)[19]
    (finding,) = judged(frames, counts, learner)
    assert (finding.kind, finding.take, finding.word, finding.severe) == ("outlier", "take2", "word0", True)
    assert "more like 'word1' than like 'word0'" in finding.sentence


def test_a_take_of_nothing_enrolled_is_unlike_its_word() -> None:
    counts = [5, 5]
    frames = takes_of(range(2), counts)
    frames[7] = takes_of([9], [1])[0]
    assert ("outlier", "take7", "word1") in {(f.kind, f.take, f.word) for f in judged(frames, counts)}


def test_thirty_copies_of_a_take_are_one_finding() -> None:
    frames = takes_of([0, 1], [1, 5])
    near = frames[0] + 0.02 * torch.from_numpy(np.random.default_rng(1).standard_normal((30, DIM))) / DIM**0.5
    near = near / near.norm(dim=1, keepdim=True)
    (finding,) = judged(torch.cat([near, frames[1:]]), [30, 5])
    assert (finding.kind, finding.word, finding.severe) == ("copies", "word0", True)
    assert "29 of 30 takes of 'word0'" in finding.sentence


def test_a_recording_under_two_words_is_named() -> None:
    frames = takes_of(range(2), [4, 4])
    frames[5] = frames[1]
    found = [finding for finding in judged(frames, [4, 4]) if finding.kind == "copies"]
    assert [finding.take for finding in found] == ["take5"]
    assert "'word0' and 'word1'" in found[0].sentence


@pytest.mark.parametrize("n", [2, 3, 5, 8])
def test_the_same_word_under_two_names_is_one_finding_and_blames_no_take(n: int) -> None:
    (finding,) = judged(takes_of([0, 0, 1], [n] * 3, seed=n), [n] * 3)
    assert (finding.kind, finding.severe) == ("alike", True)
    assert finding.sentence.startswith("'word0' and 'word1' sound alike")


def test_a_single_take_is_told_what_it_costs() -> None:
    (finding,) = judged(takes_of(range(2), [1, 4]), [1, 4])
    assert (finding.kind, finding.word, finding.severe) == ("single", "word0", False)
    (only,) = judged(takes_of([0], [1]), [1])
    assert only.kind == "single"


def test_the_order_of_words_and_takes_does_not_matter() -> None:
    counts = [4, 4, 4]
    frames = takes_of(range(3), counts)
    frames[0] = takes_of([2], [20])[19]
    labels = torch.arange(3).repeat_interleave(4)
    order = torch.from_numpy(np.random.default_rng(0).permutation(12))
    swapped = torch.tensor([1, 2, 0])
    state = {"takes": frames[order][:, None, None], "lengths": torch.ones(12), "labels": swapped[labels][order]}
    names = [f"take{i}" for i in order.tolist()]
    words = ["word2", "word0", "word1"]
    assert word_findings(Cosines(), state, words, names) == judged(frames, counts)


def test_the_recogniser_finds_a_take_of_another_word_and_the_same_recording_twice() -> None:
    words = [word for word in sounds.WORDS[:4] for _ in range(4)]
    waves = [sounds.say(word, speaker) for word in sounds.WORDS[:4] for speaker in sounds.SPEAKERS]
    waves[5] = sounds.say(words[0], "anna", 3)
    waves[10] = waves[9] * 0.7
    house = CommandRecognizer("dtw").fit([(wave, sounds.RATE_HZ) for wave in waves], words)
    names = [str(i) for i in range(16)]
    found = word_findings(house.model_.learner, house.state_, house.labels_, names)
    assert ("outlier", "5") in {(finding.kind, finding.take) for finding in found}
    assert any(finding.kind == "copies" and finding.word == words[10] for finding in found)


@pytest.mark.real
def test_one_voice_is_hardly_ever_blamed_and_a_swapped_take_is_found(data_root: Path) -> None:
    """Five takes of six words of one speaker, with an untrained learner."""
    by_speaker: dict[str | None, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for utterance in load_corpus(data_root / "fsdd_en_digits"):
        by_speaker[utterance.speaker][utterance.label or ""].append(utterance.path)
    n_takes = n_blamed = n_found = n_swaps = 0
    for words in by_speaker.values():
        names = sorted(words)[:6]
        chosen = [path for name in names for path in words[name][:5]]
        labels = [name for name in names for _ in range(5)]
        for swap in (False, True):
            clips = list(chosen)
            if swap:
                clips[0] = words[names[3]][6]
            house = CommandRecognizer("dtw", target=None).fit(clips, labels)
            found = word_findings(house.model_.learner, house.state_, house.labels_, [str(i) for i in range(30)])
            odd = {finding.take for finding in found if finding.kind == "outlier"}
            if swap:
                n_swaps, n_found = n_swaps + 1, n_found + ("0" in odd)
            else:
                n_takes, n_blamed = n_takes + 30, n_blamed + len(odd)
    assert n_blamed <= 0.03 * n_takes
    assert n_found == n_swaps
