"""Recordings without texts: which are read, which are passed over, what is heard in them."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tonal
import torch
from tones import RATE_HZ

from metavox.contracts import InputError
from metavox.features import prepare
from metavox.transcription.untranscribed import Piece, hear, listen, recordings_in


def wav(path: Path, wave: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave, RATE_HZ)
    return path


def three(root: Path) -> list[Path]:
    return [wav(root / f"{i}.wav", tonal.said(text, seed=i)) for i, text in enumerate(tonal.texts(3, 0))]


def test_a_folder_gives_its_recordings_at_any_depth_and_a_manifest_those_it_names(tmp_path: Path) -> None:
    for name in ("b/two.WAV", "one.wav", "b/c/three.flac", ".hidden/x.wav", "b/.x.wav", "notes.txt"):
        path = tmp_path / "plain" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = recordings_in(tmp_path / "plain")
    assert [str(p.relative_to(tmp_path / "plain")) for p in found] == ["one.wav", "b/two.WAV", "b/c/three.flac"]
    corpus = tonal.corpus(tmp_path / "corpus", tonal.texts(2, 0), written=["", ""])
    wav(corpus / "other.wav", np.zeros(8_000))
    named = [corpus / "000.wav", corpus / "001.wav"]
    assert recordings_in(corpus) == recordings_in(corpus / "manifest.jsonl") == named
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no recording"):
        recordings_in(tmp_path / "empty")
    with pytest.raises(InputError, match="is no folder"):
        recordings_in(tmp_path / "nowhere")


def test_features_are_those_of_the_files_in_an_order_of_the_seed(tmp_path: Path) -> None:
    paths = three(tmp_path)
    found = listen(paths, tonal.FRONT_END, seed=1)
    assert {piece.path for piece in found.pieces} == set(paths)
    assert all(piece.whole and str(piece) == str(piece.path) for piece in found.pieces)
    for piece, frames in zip(found.pieces, found.features, strict=True):
        wave, _ = soundfile.read(piece.path, dtype="float32")
        assert torch.equal(frames, prepare(wave, tonal.FRONT_END)[0][0])
        assert piece.seconds == pytest.approx(len(wave) / RATE_HZ)
    orders = {tuple(p.path.name for p in listen(paths, tonal.FRONT_END, seed=s).pieces) for s in range(8)}
    assert len(orders) > 2
    assert [p.path for p in listen(paths, tonal.FRONT_END, seed=1).pieces] == [p.path for p in found.pieces]


def test_copies_of_transcribed_recordings_and_what_is_unusable_are_passed_over(tmp_path: Path) -> None:
    paths = three(tmp_path / "new")
    own = Path(shutil.copyfile(paths[0], tmp_path / "transcribed.wav"))
    silent = wav(tmp_path / "new" / "silent.wav", np.zeros(16_000))
    broken = tmp_path / "new" / "broken.wav"
    broken.write_bytes(b"RIFF")
    gone = tmp_path / "new" / "gone.wav"
    long = wav(tmp_path / "new" / "long.wav", np.tile(tonal.said("bdf"), 80))
    found = listen([*paths, silent, broken, gone, long], tonal.FRONT_END, apart_from=[own])
    assert {piece.path for piece in found.pieces} == set(paths[1:])
    assert found.n_known == 1
    assert len(found.skipped) == 4
    for name in ("silent", "broken", "gone", "long"):
        assert sum(name in sentence for sentence in found.skipped) == 1
    with pytest.raises(InputError, match=r"None of 2 .* 1 are transcribed ones and 1 are unusable, the first:"):
        listen([paths[0], silent], tonal.FRONT_END, apart_from=[own])


def test_long_recordings_are_cut_and_the_pieces_say_where_they_are(tmp_path: Path) -> None:
    one = tonal.said("bdf khm")
    long = wav(tmp_path / "long.wav", np.concatenate([one, np.zeros(25 * RATE_HZ, np.float32), one]))
    short = wav(tmp_path / "short.wav", one)
    asked = []

    def cut(path: Path) -> Iterator[tuple[float, np.ndarray]]:
        asked.append(path)
        start_s = len(one) / RATE_HZ + 25
        yield from ((0.0, one), (10.0, np.zeros(1_600, np.float32)), (start_s, one))

    found = listen([long, short], tonal.FRONT_END, cut=cut)
    assert asked == [long]
    assert len(found) == 3
    start = len(one) / RATE_HZ + 25
    assert Piece(long, start, start + len(one) / RATE_HZ, False) in found.pieces
    texts = sorted(map(str, found.pieces))
    assert texts[0] == f"{long} from 0.0 to {len(one) / RATE_HZ:.1f} s"
    assert texts[2] == str(short)


def test_no_more_is_read_than_is_asked_for(tmp_path: Path) -> None:
    paths = three(tmp_path)
    found = listen(paths, tonal.FRONT_END, max_total_s=2.0)
    assert 2.0 <= found.seconds < 4.0
    assert len(found) == 2


def test_posteriors_in_a_batch_are_those_alone(tmp_path: Path) -> None:
    base = tonal.reader()
    sentences = [text[: 3 + 2 * i] for i, text in enumerate(tonal.texts(11, 0, n_words=8))]
    features = [prepare(tonal.said(text.strip()), tonal.FRONT_END)[0][0] for text in sentences]
    found = dict(hear(base, features))
    assert sorted(found) == list(range(11))
    for place, heard in found.items():
        lengths = torch.tensor([len(features[place])])
        with torch.no_grad():
            alone = base.net(features[place][None], lengths)[0]
            hidden = base.net.hidden(features[place][None], lengths)[0][0]
        assert heard.log_probs.shape == alone.shape
        assert torch.allclose(heard.log_probs, alone, atol=1e-4)
        assert torch.allclose(heard.mean, hidden.mean(1), atol=1e-4)


def test_a_folder_that_may_not_be_read_is_passed_over(tmp_path: Path) -> None:
    paths = three(tmp_path)
    os.chmod(paths[0], 0)
    if os.access(paths[0], os.R_OK):
        pytest.skip("this user may read everything")
    assert len(listen(paths, tonal.FRONT_END).skipped) == 1
