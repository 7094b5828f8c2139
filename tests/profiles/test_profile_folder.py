"""Profiles on disk: what was saved comes back, and what is damaged, changed or of another version is told."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sounds
import torch
from refusals import said

from metavox.checkpoint import build, load_model, save_model, write_tensors
from metavox.config import EncoderConfig, LearnerConfig, ModelConfig
from metavox.contracts import Calibration, FrontEnd, Profile, Promise
from metavox.profiles import Revision, Take, digest_of, folder, load_profile, model_of_profile, save_profile
from metavox.profiles.contents import N_EARLIER

SMALL = ModelConfig(
    front_end=FrontEnd(n_mels=20, n_frames=24, normalize=False),
    encoder=EncoderConfig(channels=16, blocks=1, dim=8),
    learner=LearnerConfig(match="soft"),
)
PROMISE = Promise(0.05, False, 0.04, 0.95, 800, 20, 1.5, "television", 7, 1.25)
LABELS = ("licht an", "灯")


def profile(seed: int = 0, model_hash: str = "0" * 64) -> Profile:
    generator = torch.Generator().manual_seed(seed)
    state = {"takes": torch.randn(4, 3, 2, generator=generator), "labels": torch.tensor([0, 0, 1, 1])}
    calibration = Calibration(1.25, 4, 3, "negatives", PROMISE)
    return Profile(state, LABELS, calibration, FrontEnd(n_mels=20), model_hash, "1.0")


def take(word: str, seed: int, *, audio: bool = False) -> Take:
    rng = np.random.default_rng(seed)
    frames = torch.from_numpy(rng.standard_normal((5 + seed, 20))).half()
    samples = rng.integers(-32768, 32768, 4000).astype(np.int16) if audio else None
    return Take(f"{word}-{seed}.wav", word, "file", 0.25, frames, samples)


def revision(number: int = 1, *seeds: int, audio: bool = False) -> Revision:
    takes = tuple(take(LABELS[i % 2], seed, audio=audio) for i, seed in enumerate(seeds))
    return Revision(number, f"change {number}", LABELS, Calibration(float(number), 1, 2, "both"), takes, 0.5, 1.5)


def same(one: Revision, other: Revision) -> None:
    for name in ("number", "change", "labels", "calibration", "expected_refusals", "temperature"):
        assert getattr(one, name) == getattr(other, name)
    assert len(one.takes) == len(other.takes)
    for a, b in zip(one.takes, other.takes, strict=True):
        assert (a.name, a.word, a.source, a.duration_s, a.key) == (b.name, b.word, b.source, b.duration_s, b.key)
        assert torch.equal(a.frames, b.frames)
        assert (a.audio is None) == (b.audio is None)
        assert a.audio is None or np.array_equal(a.audio, b.audio)


def test_a_profile_comes_back_as_it_was(tmp_path: Path) -> None:
    saved, now = profile(), revision(3, 0, 1, 2)
    earlier = [revision(1, 0), revision(2, 0, 7)]
    options = {"target": 0.1, "negatives": ["/a/b"]}
    save_profile(
        tmp_path / "p", saved, model=None, now=now, earlier=earlier, extra={"model_name": "dtw", "options": options}
    )
    found = load_profile(tmp_path / "p")
    same(found.revision, replace(now, calibration=saved.calibration))
    assert len(found.earlier) == 2
    for one, other in zip(found.earlier, earlier, strict=True):
        same(one, other)
    got = found.profile
    assert (got.labels, got.calibration, got.front_end) == (saved.labels, saved.calibration, saved.front_end)
    assert (got.model_hash, got.version) == (saved.model_hash, saved.version)
    assert got.state.keys() == saved.state.keys()
    assert all(torch.equal(got.state[name], saved.state[name]) for name in saved.state)
    assert found.document["model_name"] == "dtw"
    assert found.document["options"] == {
        "target": 0.1, "per_hour": False, "confidence": 0.95, "negatives": ("/a/b",), "keep_audio": False
    }  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["p"]
    names = {"profile.json", "state.safetensors", "takes.safetensors", "earlier.json", "earlier.safetensors"}
    assert set(sounds.files_below(tmp_path / "p")) == names


def test_a_profile_holds_no_time_and_no_chance(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_profile(tmp_path / name, profile(), model=None, now=revision(2, 1, 2), earlier=[revision(1, 1)])
    assert sounds.files_below(tmp_path / "a") == sounds.files_below(tmp_path / "b")


def test_recordings_are_kept_to_the_bit_and_once(tmp_path: Path) -> None:
    now = revision(2, 0, 1, audio=True)
    save_profile(tmp_path / "p", profile(), model=None, now=now, earlier=[revision(1, 0, 5, audio=True)])
    found = load_profile(tmp_path / "p")
    same(found.revision, replace(now, calibration=profile().calibration))
    same(found.earlier[0], revision(1, 0, 5, audio=True))
    assert len(list((tmp_path / "p" / "audio").iterdir())) == 3


def test_only_the_last_revisions_are_kept(tmp_path: Path) -> None:
    earlier = [revision(number, number) for number in range(1, N_EARLIER + 4)]
    save_profile(tmp_path / "p", profile(), model=None, now=revision(N_EARLIER + 4, 0), earlier=earlier)
    assert [one.number for one in load_profile(tmp_path / "p").earlier] == list(range(4, N_EARLIER + 4))


def test_a_profile_replaces_an_older_one_and_nothing_else(tmp_path: Path) -> None:
    save_profile(tmp_path / "p", profile(0), model=None)
    (tmp_path / "p" / "stray.txt").write_text("of the old one")
    save_profile(tmp_path / "p", profile(1), model=None)
    assert torch.equal(load_profile(tmp_path / "p").profile.state["takes"], profile(1).state["takes"])
    assert sorted(sounds.files_below(tmp_path)) == ["p/profile.json", "p/state.safetensors"]
    other = tmp_path / "photos"
    other.mkdir()
    (other / "me.jpg").write_text("me")
    file = tmp_path / "file"
    file.write_text("mine")
    for taken in (other, file):
        assert "exists and is no profile" in said(lambda taken=taken: save_profile(taken, profile(), model=None))
    assert (other / "me.jpg").read_text() == "me"
    assert file.read_text() == "mine"


def test_a_profile_can_be_saved_where_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Into the current folder, and through a link."""
    save_profile(tmp_path / "p", profile(0), model=None)
    monkeypatch.chdir(tmp_path / "p")
    save_profile(Path("."), profile(1), model=None)
    monkeypatch.chdir(tmp_path)
    assert torch.equal(load_profile(tmp_path / "p").profile.state["takes"], profile(1).state["takes"])
    (tmp_path / "link").symlink_to(tmp_path / "p")
    save_profile(tmp_path / "link", profile(2), model=None)
    assert torch.equal(load_profile(tmp_path / "p").profile.state["takes"], profile(2).state["takes"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "p"]


# ----------------------------------------------------------------------------------------------------------- damage


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(path: Path) -> None:
    """One bit of the last value."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def edited(path: Path, *, sign: bool = False, **changes: Any) -> None:
    document = json.loads(path.read_text())
    for key, value in changes.items():
        *above, last = key.split("__")
        node = document
        for part in above:
            node = node[int(part) if part.isdigit() else part]
        if value is KeyError:
            del node[last]
        else:
            node[last] = value
    if sign:
        document["digest"] = digest_of(document)
    path.write_text(json.dumps(document))


def forged(folder: Path, name: str, content: bytes | dict[str, torch.Tensor]) -> None:
    """Another file in the place of one, under a document that says so."""
    if isinstance(content, bytes):
        (folder / name).write_bytes(content)
    else:
        write_tensors(folder / name, content)
    content = (folder / name).read_bytes()
    document = json.loads((folder / "profile.json").read_text())
    document["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    document["digest"] = digest_of(document)
    (folder / "profile.json").write_text(json.dumps(document))


def frames_of(which: str) -> dict[str, torch.Tensor]:
    keys = [one.key for one in revision(3, 0, 1, 2).takes]
    frames = {key: torch.zeros(4, 20, dtype=torch.float16) for key in keys}
    odd = {
        "NaN": torch.full((4, 20), torch.nan, dtype=torch.float16),
        "flat": torch.zeros(20, dtype=torch.float16),
        "narrow": torch.zeros(4, 19, dtype=torch.float16),
        "wide": torch.zeros(4, 20, dtype=torch.float32),
        "none": torch.zeros(0, 20, dtype=torch.float16),
    }[which]
    return {**frames, keys[0]: odd}


P, S, T, E = "profile.json", "state.safetensors", "takes.safetensors", "earlier.json"
DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    **{f"{name} cut": (lambda f, name=name: cut(f / name), "damaged or truncated") for name in (P, S, T, E)},
    **{f"{name} gone": (lambda f, name=name: (f / name).unlink(), "is missing") for name in (S, T, E)},
    **{
        f"{name} changed": (lambda f, name=name: flipped(f / name), f"{name} is not as it was saved")
        for name in (S, T, E)
    },
    "document a list": (lambda f: (f / P).write_text("[]"), "not written by Metavox"),
    "document of others": (lambda f: (f / P).write_text('{"a": 1}'), "not written by Metavox"),
    "document huge": (lambda f: (f / P).write_text(" " * 20_000_001), "at most 20000000 are read"),
    "a newer format": (lambda f: edited(f / P, format=99, version="9.9"), "install the version that wrote it (9.9)"),
    "no labels": (lambda f: edited(f / P, labels=KeyError), "labels"),
    "labels a number": (lambda f: edited(f / P, labels=3), "labels"),
    "labels of numbers": (lambda f: edited(f / P, labels=[1, 2]), "labels"),
    "labels empty": (lambda f: edited(f / P, labels=[]), "labels"),
    "too many labels": (lambda f: edited(f / P, labels=[str(i) for i in range(1001)]), "labels"),
    "a label too long": (lambda f: edited(f / P, labels=["a" * 101, "b"]), "labels"),
    "an empty label": (lambda f: edited(f / P, labels=["", "b"]), "labels"),
    "a label twice": (lambda f: edited(f / P, labels=["灯", "灯"]), "name a word twice"),
    "a take of no label": (lambda f: edited(f / P, labels=["灯", "b"]), "which is no label"),
    "no calibration": (lambda f: edited(f / P, calibration=KeyError), "calibration"),
    "calibration a list": (lambda f: edited(f / P, calibration=[1]), "calibration"),
    "no threshold": (lambda f: edited(f / P, calibration__threshold=KeyError), "threshold"),
    "threshold a word": (lambda f: edited(f / P, calibration__threshold="high"), "threshold"),
    "threshold NaN": (lambda f: edited(f / P, calibration__threshold=float("nan")), "threshold"),
    "threshold infinite": (lambda f: edited(f / P, calibration__threshold=float("inf")), "threshold"),
    "threshold lower": (lambda f: edited(f / P, calibration__threshold=-9.0), "is not as it was saved"),
    "promise NaN": (lambda f: edited(f / P, calibration__promise__bound=float("nan")), "bound is nan"),
    "promise a word": (lambda f: edited(f / P, calibration__promise="good"), "promise"),
    "front end odd": (lambda f: edited(f / P, front_end__n_mels=1), "n_mels"),
    "hash a number": (lambda f: edited(f / P, model_hash=5), "model_hash"),
    "place a number": (lambda f: edited(f / P, model=5), "model"),
    "a file elsewhere": (lambda f: edited(f / P, files={"../../etc/passwd": {"bytes": 1, "sha256": ""}}), "files"),
    "a file unnamed": (lambda f: edited(f / P, sign=True, files={}), "is not named in profile.json"),
    "revision 0": (lambda f: edited(f / P, revision=0), "revision"),
    "an odd source": (lambda f: edited(f / P, takes__0__source="tape"), "source"),
    "an odd key": (lambda f: edited(f / P, takes__0__key="../../x"), "key"),
    "another option": (lambda f: edited(f / P, options={"run": "rm"}), "options"),
    "frames of NaN": (lambda f: forged(f, T, frames_of("NaN")), "holds values that are no numbers"),
    "frames flat": (lambda f: forged(f, T, frames_of("flat")), "are not there"),
    "frames narrow": (lambda f: forged(f, T, frames_of("narrow")), "does not fit its front end"),
    "frames of 32 bits": (lambda f: forged(f, T, frames_of("wide")), "are not there"),
    "no frames": (lambda f: forged(f, T, frames_of("none")), "are not there"),
    "state of NaN": (lambda f: forged(f, S, {"takes": torch.tensor([torch.inf])}), "holds values that are no numbers"),
    "state of nothing": (lambda f: forged(f, S, b"no tensors"), "damaged or truncated"),
    "earlier of nothing": (lambda f: forged(f, E, b"{"), "damaged or truncated"),
    "earlier a list": (lambda f: forged(f, E, b"[]"), "earlier.json"),
    "state a link": (lambda f: ((f / S).rename(f.parent / "s"), (f / S).symlink_to("../s")), "no regular file"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_profile_is_refused(tmp_path: Path, name: str) -> None:
    damage, expected = DAMAGE[name]
    now, earlier = revision(3, 0, 1, 2), [revision(1, 0), revision(2, 0, 7)]
    save_profile(tmp_path / "p", profile(), model=None, now=now, earlier=earlier)
    damage(tmp_path / "p")
    text = said(lambda: load_profile(tmp_path / "p"))
    assert expected in text
    assert "again" in text or "name a profile" in text


@pytest.mark.parametrize("damage", ["cut", "no audio", "long"])
def test_damaged_recordings_are_told(tmp_path: Path, damage: str) -> None:
    import io

    import soundfile

    save_profile(tmp_path / "p", profile(), model=None, now=revision(1, 0, 1, audio=True))
    (path, _) = sorted((tmp_path / "p" / "audio").iterdir())
    if damage == "cut":
        cut(path)
    elif damage == "no audio":
        forged(tmp_path / "p", f"audio/{path.name}", b"fLaC")
    else:
        content = io.BytesIO()
        soundfile.write(content, np.zeros(16_000 * 40), 16_000, format="FLAC")
        forged(tmp_path / "p", f"audio/{path.name}", content.getvalue())
    text = said(lambda: load_profile(tmp_path / "p"))
    assert {"cut": "damaged or truncated", "no audio": "cannot be decoded", "long": "at most 30 s"}[damage] in text


def test_a_profile_of_the_first_format_says_what_to_do(tmp_path: Path) -> None:
    save_profile(tmp_path / "p", profile(), model=None)
    edited(tmp_path / "p" / P, format=1, version="0.0.9")
    text = said(lambda: load_profile(tmp_path / "p"))
    assert "has format 1" in text
    assert "reads format 2" in text
    assert text.endswith("enrol again with `metavox enroll`.")


def test_no_profile_there_names_the_verb(tmp_path: Path) -> None:
    assert "make one with `metavox enroll`" in said(lambda: load_profile(tmp_path / "nowhere"))


@pytest.mark.parametrize("at", [S, T, P, E, "rename", "audio"])
def test_a_profile_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    save_profile(tmp_path / "p", profile(0), model=None)
    before = sounds.files_below(tmp_path)

    def full(*args: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    def unless(write: Callable[..., None]) -> Callable[..., None]:
        return lambda path, *args: full() if path.name == at else write(path, *args)

    if at == "rename":
        rename = Path.rename
        monkeypatch.setattr(Path, "rename", lambda self, to: full() if ".tmp" in self.name else rename(self, to))
    elif at == "audio":
        monkeypatch.setattr(folder.soundfile, "write", full)
    else:
        for name in ("write_tensors", "write_json"):
            monkeypatch.setattr(folder, name, unless(getattr(folder, name)))
    with pytest.raises(OSError, match="No space left"):
        save_profile(tmp_path / "p", profile(1), model=None, now=revision(2, 0, audio=True), earlier=[revision(1, 1)])
    assert sounds.files_below(tmp_path) == before


# ------------------------------------------------------------------------------------------- a profile and its model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "exp" / "model"
    save_model(folder, build(SMALL, seed=1), SMALL, {})
    return folder


@pytest.fixture
def pair(tmp_path: Path, model: Path) -> Path:
    """A model and a profile made with it, side by side in one folder."""
    save_profile(tmp_path / "exp" / "house", profile(model_hash=load_model(model).hash), model=model)
    return tmp_path / "exp"


def found_model(folder: Path, named: Path | None = None) -> Path | None:
    return model_of_profile(folder, load_profile(folder).document, named).folder


def test_a_profile_finds_its_model(pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found_model(pair / "house") == pair / "model"
    monkeypatch.chdir(pair / "house")
    assert found_model(Path(".")) == pair / "model"


def test_a_profile_moves_with_its_model(pair: Path, tmp_path: Path) -> None:
    shutil.move(pair, tmp_path / "elsewhere")
    place = found_model(tmp_path / "elsewhere" / "house")
    assert place is not None
    assert place.resolve() == (tmp_path / "elsewhere" / "model").resolve()


def test_a_moved_profile_takes_the_model_that_moved_with_it_where_another_took_its_place(
    pair: Path, tmp_path: Path
) -> None:
    shutil.copytree(pair, tmp_path / "copy")
    save_model(pair / "model", build(SMALL, seed=2), SMALL, {})  # trained anew in the old place
    place = found_model(tmp_path / "copy" / "house")
    assert place is not None
    assert place.resolve() == (tmp_path / "copy" / "model").resolve()


def test_a_model_that_is_gone_can_be_named(pair: Path, tmp_path: Path) -> None:
    shutil.move(pair / "model", tmp_path / "far")
    text = said(lambda: found_model(pair / "house"))
    assert str(pair / "model") in text
    assert "--model" in text
    assert found_model(pair / "house", tmp_path / "far") == tmp_path / "far"
    assert "--model" in said(lambda: found_model(pair / "house", tmp_path / "nowhere"))


def test_another_model_is_refused(pair: Path, tmp_path: Path) -> None:
    save_model(tmp_path / "other", build(SMALL, seed=2), SMALL, {})
    for named in (tmp_path / "other", None):
        if named is None:
            save_model(pair / "model", build(SMALL, seed=2), SMALL, {})
        text = said(lambda named=named: found_model(pair / "house", named))
        assert "was made with model" in text
        assert "--model or enrol again" in text


def test_a_damaged_model_of_a_profile_is_told_as_such(pair: Path) -> None:
    cut(pair / "model" / "model.safetensors")
    assert "damaged or truncated" in said(lambda: found_model(pair / "house"))
