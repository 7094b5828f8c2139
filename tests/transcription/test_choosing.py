"""Which recordings to transcribe next: unsure ones, unlike one another."""

import math
from pathlib import Path

import numpy as np
import pytest
import tonal
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_selftraining import pieces

from metavox.contracts import InputError
from metavox.data.sentences import open_sentences
from metavox.text.symbols import UNIVERSAL
from metavox.transcription.choosing import most_telling, suggested, uncertainty
from metavox.transcription.untranscribed import Piece, Untranscribed


def test_uncertainty_is_0_for_one_symbol_and_1_for_all_alike() -> None:
    sure = torch.full((4, 5), -1e9)
    sure[:, 2] = 0.0
    assert uncertainty(sure) == pytest.approx(0.0, abs=1e-9)
    assert uncertainty(torch.full((4, 5), -math.log(5))) == pytest.approx(1.0)
    half = torch.full((1, 5), -1e9)
    half[:, 1:3] = math.log(0.5)
    assert uncertainty(half) == pytest.approx(math.log(2) / math.log(5))
    blank = torch.full((3, 5), -1e9)
    blank[:, 0] = 0.0
    assert uncertainty(blank) == 0.0
    assert uncertainty(torch.cat([half, blank])) == pytest.approx(uncertainty(half))  # silence says nothing


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 9), st.integers(0, 3), st.integers(1, 10))
def test_each_next_one_has_the_largest_product_of_uncertainty_and_distance(
    seed: int, n_points: int, n_known: int, n: int
) -> None:
    rng = np.random.default_rng(seed)
    points, known = rng.standard_normal((n_points, 3)) * [1, 9, 0], rng.standard_normal((n_known, 3)) * [1, 9, 0]
    unsure = rng.uniform(0.1, 1, n_points)
    order, distances, usual = most_telling(unsure, points, known, n)
    assert len(order) == len(set(order)) == min(n, n_points)
    scale = np.concatenate([points, known]).std(0)
    scale[scale == 0] = 1
    centres = [point / scale for point in known]
    for rank, (place, distance) in enumerate(zip(order, distances, strict=True)):
        left = [i for i in range(n_points) if i not in order[:rank]]
        if centres:
            gains = {i: unsure[i] * min(math.dist(points[i] / scale, c) for c in centres) for i in left}
            assert gains[place] == pytest.approx(max(gains.values()))
            assert distance == pytest.approx(gains[place] / unsure[place])
        else:
            assert unsure[place] == max(unsure[i] for i in left)
        centres.append(points[place] / scale)
    assert usual > 0


def test_recordings_that_are_hard_to_hear_come_before_those_that_the_reader_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METAVOX_CACHE", str(tmp_path / "cache"))
    known = open_sentences([tonal.corpus(tmp_path / "c", tonal.texts(6, 4))], UNIVERSAL, tonal.FRONT_END)
    own = pieces(tonal.texts(6, 5))
    noisy = [
        frames + 4 * torch.randn(frames.shape, generator=torch.Generator().manual_seed(i))
        for i, frames in enumerate(own.features)
    ]
    both = Untranscribed(
        (*own.pieces, *(Piece(Path(f"noisy-{i}.wav"), 0.0, 1.0, True) for i in range(6))),
        (*own.features, *noisy),
        (),
        0,
    )
    found = suggested(tonal.reader(), both, 4, known)
    assert sum(each.piece.path.name.startswith("noisy") for each in found) >= 3
    assert len({each.piece.path for each in found}) == 4
    assert all(each.heard and "unsure" in each.reason for each in found)
    assert len(suggested(tonal.reader(), both, 100, known)) == 12
    assert len(suggested(tonal.reader(), both, 3)) == 3


def test_recordings_in_which_nothing_is_heard_are_not_suggested() -> None:
    base = tonal.reader()
    with torch.no_grad():
        base.net.head.bias[0] += 100
    assert suggested(base, pieces(tonal.texts(3, 5)), 2) == []
    with pytest.raises(InputError, match="ask for 1 or more"):
        suggested(base, pieces(tonal.texts(3, 5)), 0)
