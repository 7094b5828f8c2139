"""Voices on disk: what is read is what was written, and anything else is refused in a sentence."""

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from refusals import said

from metavox.profiles import vault
from metavox.profiles.keys import Key, key_of
from metavox.profiles.seen import last_seen, note_of
from metavox.profiles.vault import FILE, read_vault, write_vault
from metavox.profiles.voiceprints import Voiceprint, Voiceprints, to_bytes

KEY, OTHER = key_of(bytes(range(32))), key_of(bytes(32))
NAMES = ("Ännchen von Tharau", "কমলা")


@pytest.fixture(autouse=True)
def own_notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was seen of vaults is noted apart from that of other tests."""
    monkeypatch.setenv("METAVOX_CACHE", str(tmp_path / "notes"))


def voice(seed: int, n_clips: int = 2, dim: int = 16, audio: bytes | None = None) -> Voiceprint:
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((n_clips, dim))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    dates = ("2025-01-02T03:04:05+00:00",) * n_clips
    return Voiceprint(vectors, rng.uniform(1, 5, n_clips), rng.uniform(10, 40, n_clips), dates, (audio,) * n_clips)


def prints(names: tuple[str, ...] = NAMES, **more: bytes) -> Voiceprints:
    voices = {name: voice(k, k + 1, **more) for k, name in enumerate(names)}
    return Voiceprints(voices, "made-up", "a" * 64, "b" * 64)


def put(folder: Path, data: bytes) -> None:
    (folder / FILE).write_bytes(data)


def resealed(data: bytes) -> bytes:
    """As somebody would who knows the format and has no key: the digest fits again."""
    return data[:-32] + hashlib.sha256(data[:-32]).digest()


def head_of(data: bytes) -> tuple[dict, int]:
    first = len(b"metavox voices\n") + 4
    n_head = int.from_bytes(data[first - 4 : first], "little")
    return json.loads(data[first : first + n_head]), first + n_head


def with_head(data: bytes, **changes: object) -> bytes:
    head, start = head_of(data)
    text = json.dumps({**head, **changes}).encode()
    return resealed(b"metavox voices\n" + len(text).to_bytes(4, "little") + text + data[start:])


def alike(one: Voiceprints, other: Voiceprints) -> bool:
    """Whether the same is held of the same voices."""
    return list(one.voices) == list(other.voices) and all(
        np.array_equal(a.vectors, b.vectors)
        and np.array_equal(a.speech_s, b.speech_s)
        and np.array_equal(a.snr_db, b.snr_db)
        and (a.enrolled, a.audio) == (b.enrolled, b.audio)
        for a, b in zip(one.voices.values(), other.voices.values(), strict=True)
    )


KEYS = [pytest.param(None, id="clear"), pytest.param(KEY, id="raw"), pytest.param(key_of("six words"), id="passphrase")]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("names", [(), NAMES[:1], NAMES])
def test_what_was_written_is_read(tmp_path: Path, key: Key | None, names: tuple[str, ...]) -> None:
    folder = tmp_path / "voices"
    written = write_vault(folder, prints(names, audio=b"fLaC"), key)
    found = read_vault(folder, key)
    assert alike(found.prints, prints(names, audio=b"fLaC"))
    assert (found.prints.model, found.prints.model_hash, found.prints.encoder_hash) == ("made-up", "a" * 64, "b" * 64)
    assert (found.prints.vault, found.prints.revision, found.digest) == (written.prints.vault, 1, written.digest)
    assert os.listdir(folder) == [FILE]
    assert (folder / FILE).stat().st_mode & 0o777 == 0o600


def test_nothing_of_a_voice_is_seen_in_an_encrypted_file(tmp_path: Path) -> None:
    clear, secret = tmp_path / "clear", tmp_path / "secret"
    held = prints(audio=b"these are samples")
    write_vault(clear, held, None)
    write_vault(secret, held, KEY)
    seen, hidden = (clear / FILE).read_bytes(), (secret / FILE).read_bytes()
    for name, one in held.voices.items():
        for part in (name.encode(), one.vectors.tobytes(), one.vectors[0, :3].tobytes(), b"these are samples"):
            assert part in seen
            assert part not in hidden
    assert b"2025-01-02" not in hidden
    assert KEY.secret not in hidden
    assert "secret" not in repr(KEY)
    assert repr(KEY.secret) not in repr(KEY)


def test_every_writing_has_another_key_and_nonce(tmp_path: Path) -> None:
    before, files = None, []
    for _ in range(3):
        before = write_vault(tmp_path / "voices", prints(), KEY, before)
        files.append((tmp_path / "voices" / FILE).read_bytes())
    heads = [head_of(data) for data in files]
    for of in ("nonce", "data_key"):
        assert len({head["encryption"][of] for head, _ in heads}) == 3
    bodies = [data[start:-32] for data, (_, start) in zip(files, heads, strict=True)]
    assert len({body[k : k + 8] for body in bodies for k in range(0, 64, 8)}) == 24
    assert before is not None
    assert before.prints.revision == 3


# ---------------------------------------------------------------------------------------------------- what was changed


@pytest.mark.parametrize("fits", [False, True], ids=["by accident", "with a digest that fits"])
def test_no_byte_of_an_encrypted_file_can_be_changed(tmp_path: Path, fits: bool) -> None:
    write_vault(tmp_path, prints(NAMES[:1]), KEY)
    whole = (tmp_path / FILE).read_bytes()
    rng = np.random.default_rng(0)
    for place in range(len(whole) - 32) if fits else range(0, len(whole), 3):
        data = bytearray(whole)
        data[place] ^= 1 << int(rng.integers(8))
        put(tmp_path, resealed(bytes(data)) if fits else bytes(data))
        assert FILE in said(lambda: read_vault(tmp_path, KEY))
    put(tmp_path, whole)
    assert alike(read_vault(tmp_path, KEY).prints, prints(NAMES[:1]))


def test_no_byte_of_a_file_in_the_clear_changes_by_accident(tmp_path: Path) -> None:
    write_vault(tmp_path, prints(NAMES[:1]), None)
    whole = (tmp_path / FILE).read_bytes()
    for place in range(0, len(whole), 3):
        data = bytearray(whole)
        data[place] ^= 1 << (place % 8)
        put(tmp_path, bytes(data))
        assert FILE in said(lambda: read_vault(tmp_path))


@pytest.mark.parametrize("key", KEYS[:2])
def test_a_file_that_is_cut_or_longer_is_refused(tmp_path: Path, key: Key | None) -> None:
    write_vault(tmp_path, prints(), key)
    whole = (tmp_path / FILE).read_bytes()
    for length in [*range(120), *range(120, len(whole), 37), len(whole) - 1]:
        for data in (whole[:length], resealed(whole[:length])):
            put(tmp_path, data)
            said(lambda: read_vault(tmp_path, key))
    for more in (b"\0", b"x" * 100, whole):
        for data in (whole + more, resealed(whole + more + bytes(32))):
            put(tmp_path, data)
            said(lambda: read_vault(tmp_path, key))


def test_parts_of_two_files_with_one_key_do_not_go_together(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    first = write_vault(one, prints(NAMES[:1]), KEY)
    write_vault(two, replace(prints(NAMES[1:]), model_hash="c" * 64), KEY)
    a, b = (one / FILE).read_bytes(), (two / FILE).read_bytes()
    (head_a, start_a), (head_b, start_b) = head_of(a), head_of(b)
    mixed = [
        a[:start_a] + b[start_b:],
        with_head(a, encryption=head_b["encryption"]),
        with_head(a, model_hash=head_b["model_hash"]),
        with_head(a, version="9"),
        with_head(a, encryption={**head_a["encryption"], "data_key": head_b["encryption"]["data_key"]}),
        with_head(a, encryption={**head_a["encryption"], "nonce": head_b["encryption"]["nonce"]}),
    ]
    for data in mixed:
        put(one, resealed(data))
        assert "tampered" in said(lambda: read_vault(one, KEY))
    put(one, a)
    assert read_vault(one, KEY).digest == first.digest


def test_a_vault_in_the_place_of_another_is_noticed(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    write_vault(one, prints(NAMES[:1]), KEY)
    write_vault(two, prints(NAMES[1:]), KEY)
    put(one, (two / FILE).read_bytes())
    assert "another vault" in said(lambda: read_vault(one, KEY))
    assert list(read_vault(two, KEY).prints.voices) == [NAMES[1]]


@pytest.mark.parametrize("key", KEYS[:2])
def test_an_older_copy_in_its_place_is_noticed(tmp_path: Path, key: Key | None) -> None:
    before = write_vault(tmp_path / "voices", prints(), key)
    old = (tmp_path / "voices" / FILE).read_bytes()
    now = write_vault(tmp_path / "voices", prints(NAMES[:1]), key, before)
    new = (tmp_path / "voices" / FILE).read_bytes()
    put(tmp_path / "voices", old)
    sentence = said(lambda: read_vault(tmp_path / "voices", key))
    assert "older copy" in sentence
    assert "written 1 times" in sentence
    assert str(note_of(tmp_path / "voices")) in sentence
    put(tmp_path / "voices", new)
    assert read_vault(tmp_path / "voices", key).digest == now.digest
    put(tmp_path / "voices", old)
    note_of(tmp_path / "voices").unlink()  # the user says that it is meant
    assert list(read_vault(tmp_path / "voices", key).prints.voices) == list(NAMES)


def test_the_note_names_nobody(tmp_path: Path) -> None:
    write_vault(tmp_path / "voices", prints(), KEY)
    note = note_of(tmp_path / "voices").read_text()
    assert set(json.loads(note)) == {"vault", "revision", "encrypted"}
    for damaged in ("", "{", "[]", '{"vault": 1}', "x" * 20_000):
        note_of(tmp_path / "voices").write_text(damaged)
        assert last_seen(tmp_path / "voices") is None
        assert list(read_vault(tmp_path / "voices", KEY).prints.voices) == list(NAMES)


def test_voices_stay_readable_where_nothing_can_be_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("METAVOX_CACHE", str(tmp_path / "file"))
    write_vault(tmp_path / "voices", prints(), KEY)
    assert list(read_vault(tmp_path / "voices", KEY).prints.voices) == list(NAMES)


def test_an_encrypted_file_cannot_be_replaced_by_one_in_the_clear(tmp_path: Path) -> None:
    written = write_vault(tmp_path / "voices", prints(NAMES[:1]), KEY)
    forged = replace(prints(NAMES[1:]), vault=written.prints.vault, revision=99)
    put(tmp_path / "voices", vault._sealed(to_bytes(forged), forged.model_hash, None, None))
    assert "is not encrypted" in said(lambda: read_vault(tmp_path / "voices", KEY))
    assert "was encrypted and is not any more" in said(lambda: read_vault(tmp_path / "voices"))


def test_a_renamed_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(vault, "FILE", "backup.metavox")
        write_vault(tmp_path, prints(), KEY)
    assert "holds no voices" in said(lambda: read_vault(tmp_path, KEY))
    (tmp_path / "backup.metavox").rename(tmp_path / FILE)
    assert "saved as 'backup.metavox'" in said(lambda: read_vault(tmp_path, KEY))
    put(tmp_path, with_head((tmp_path / FILE).read_bytes(), file=FILE))
    assert "tampered" in said(lambda: read_vault(tmp_path, KEY))


# -------------------------------------------------------------------------------------------------------------- keys


def test_another_key_and_another_kind_of_key_are_told_apart(tmp_path: Path) -> None:
    raw, words = tmp_path / "raw", tmp_path / "words"
    write_vault(raw, prints(), KEY)
    write_vault(words, prints(), key_of("six words"))
    assert "another key" in said(lambda: read_vault(raw, OTHER))
    assert "another key" in said(lambda: read_vault(words, key_of("six word")))
    assert "--passphrase-env" in said(lambda: read_vault(words, KEY))
    assert "--key-file" in said(lambda: read_vault(raw, key_of("six words")))
    assert "none was given" in said(lambda: read_vault(raw))


def test_a_passphrase_is_salted_for_each_vault_and_the_same_in_any_spelling(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_vault(tmp_path / name, prints(), key_of("caf\u00e9"))
    salts = {head_of((tmp_path / name / FILE).read_bytes())[0]["encryption"]["key"]["salt"] for name in ("one", "two")}
    assert len(salts) == 2
    assert list(read_vault(tmp_path / "one", key_of("cafe\u0301")).prints.voices) == list(NAMES)


def test_a_key_must_be_one(tmp_path: Path) -> None:
    path = tmp_path / "my.key"
    for size in (0, 31, 33, 64):
        path.write_bytes(os.urandom(size))
        assert f"has {size} bytes and needs 32" in said(lambda: key_of(path))
        assert f"{size} bytes and needs 32" in said(lambda size=size: key_of(bytes(size)))
    path.write_bytes(bytes(range(32)))
    assert key_of(path).secret == KEY.secret
    assert "no regular file" in said(lambda: key_of(tmp_path))
    assert "cannot be read" in said(lambda: key_of(tmp_path / "gone"))
    assert "empty" in said(lambda: key_of(""))
    assert "no text" in said(lambda: key_of("\udcff"))
    assert "at most" in said(lambda: key_of("x" * 20_000))


def test_a_file_may_not_ask_for_all_memory_or_for_a_weak_key(tmp_path: Path) -> None:
    write_vault(tmp_path, prints(), key_of("six words"))
    whole = (tmp_path / FILE).read_bytes()
    how = head_of(whole)[0]["encryption"]
    for odd in (
        {"n": 2**30},
        {"n": 2**18, "r": 16},
        {"n": 2},
        {"n": 2**15 + 1},
        {"p": 10**6},
        {"r": 10**9},
        {"salt": ""},
    ):
        put(tmp_path, with_head(whole, encryption={**how, "key": {**how["key"], **odd}}))
        assert "is odd" in said(lambda: read_vault(tmp_path, key_of("six words")))


def test_without_cryptography_a_key_is_refused_and_nothing_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from metavox.profiles import keys

    monkeypatch.setattr(keys.importlib.util, "find_spec", lambda name: None)
    assert "metavox[secure]" in said(lambda: write_vault(tmp_path / "voices", prints(), KEY))
    assert not (tmp_path / "voices").exists()


# ------------------------------------------------------------------------------------------------------------ writing


def test_nobody_elses_voices_are_written_over(tmp_path: Path) -> None:
    write_vault(tmp_path / "voices", prints(NAMES[:1]), KEY)
    whole = (tmp_path / "voices" / FILE).read_bytes()
    assert "holds voices already" in said(lambda: write_vault(tmp_path / "voices", prints(), KEY))
    mine, yours = (read_vault(tmp_path / "voices", KEY) for _ in range(2))
    write_vault(tmp_path / "voices", prints(), KEY, mine)
    assert "by somebody else" in said(lambda: write_vault(tmp_path / "voices", prints(()), KEY, yours))
    assert list(read_vault(tmp_path / "voices", KEY).prints.voices) == list(NAMES)
    assert whole != (tmp_path / "voices" / FILE).read_bytes()


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.txt").write_text("text")
    assert "'thesis.txt'" in said(lambda: write_vault(tmp_path / "work", prints(), KEY))
    assert os.listdir(tmp_path / "work") == ["thesis.txt"]
    assert "is a file" in said(lambda: write_vault(tmp_path / "work" / "thesis.txt", prints(), KEY))


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_writing_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before = write_vault(tmp_path / "voices", prints(), KEY)
    whole = (tmp_path / "voices" / FILE).read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(vault.os, call, full)
        with pytest.raises(OSError, match="No space"):
            write_vault(tmp_path / "voices", prints(NAMES[:1]), KEY, before)
        with pytest.raises(OSError, match="No space"):
            write_vault(tmp_path / "new", prints(NAMES[:1]), KEY)
    assert os.listdir(tmp_path / "voices") == [FILE]
    assert (tmp_path / "voices" / FILE).read_bytes() == whole
    assert not (tmp_path / "new").exists()
    assert alike(read_vault(tmp_path / "voices", KEY).prints, prints())


def test_what_a_broken_writing_left_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "voices"
    before = write_vault(folder, prints(), None)
    (folder / f".{FILE}.12345.tmp").write_bytes(to_bytes(prints()))
    write_vault(folder, prints(NAMES[1:]), None, before)
    assert os.listdir(folder) == [FILE]
    assert NAMES[0].encode() not in (folder / FILE).read_bytes()


def test_a_link_to_the_folder_stays_a_link(tmp_path: Path) -> None:
    write_vault(tmp_path / "voices", prints(), KEY)
    (tmp_path / "link").symlink_to(tmp_path / "voices")
    before = read_vault(tmp_path / "link", KEY)
    write_vault(tmp_path / "link", prints(()), KEY, before)
    assert (tmp_path / "link").is_symlink()
    assert not read_vault(tmp_path / "voices", KEY).prints.voices


# ------------------------------------------------------------------------------------------------------ hostile files


def test_what_is_no_regular_file_or_too_long_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_vault(tmp_path / "voices", prints(), None)
    for name in ("link", "pipe", "folder"):
        (tmp_path / name).mkdir()
    (tmp_path / "link" / FILE).symlink_to(tmp_path / "voices" / FILE)
    os.mkfifo(tmp_path / "pipe" / FILE)
    (tmp_path / "folder" / FILE).mkdir()
    for name in ("link", "pipe", "folder"):
        assert "no regular file" in said(lambda name=name: read_vault(tmp_path / name))
    monkeypatch.setattr(vault, "MAX_FILE_BYTES", 100)
    assert "at most 100 are read" in said(lambda: read_vault(tmp_path / "voices"))
    assert "holds no voices" in said(lambda: read_vault(tmp_path / "gone"))


def test_an_odd_beginning_is_refused(tmp_path: Path) -> None:
    write_vault(tmp_path, prints(), None)
    whole = (tmp_path / FILE).read_bytes()
    start = head_of(whole)[1]
    for text in (b"", b"[]", b"1", b"{", b"\xff", b"[" * 5_000, b'{"format": 1}', b'{"format": true}'):
        put(tmp_path, resealed(b"metavox voices\n" + len(text).to_bytes(4, "little") + text + whole[start:]))
        said(lambda: read_vault(tmp_path))
    put(tmp_path, with_head(whole, format=2))
    assert "has format 2" in said(lambda: read_vault(tmp_path))
    for n_head in (2**32 - 1, 9_999):
        put(tmp_path, resealed(whole[:15] + n_head.to_bytes(4, "little") + whole[19:]))
        said(lambda: read_vault(tmp_path))
    for other in (b"", b"RIFF", os.urandom(1000)):
        put(tmp_path, other)
        said(lambda: read_vault(tmp_path))


def test_odd_voices_are_refused(tmp_path: Path) -> None:
    good = voice(0)
    odd = {
        "a path": Voiceprints({"../up": good}, "m", "a" * 64, "b" * 64),
        "a hash": Voiceprints({"a": good}, "m", "no hash!", "b" * 64),
        "no clip": Voiceprints({"a": voice(0, 0)}, "m", "a" * 64, "b" * 64),
        "NaN": Voiceprints({"a": replace(good, vectors=good.vectors * np.float32("nan"))}, "m", "a" * 64, "b" * 64),
        "length": Voiceprints({"a": replace(good, vectors=2 * good.vectors)}, "m", "a" * 64, "b" * 64),
        "seconds": Voiceprints({"a": replace(good, speech_s=-good.speech_s)}, "m", "a" * 64, "b" * 64),
        "level": Voiceprints({"a": replace(good, snr_db=good.snr_db * np.inf)}, "m", "a" * 64, "b" * 64),
        "dates": Voiceprints({"a": replace(good, enrolled=good.enrolled[:1])}, "m", "a" * 64, "b" * 64),
        "no date": Voiceprints({"a": replace(good, enrolled=("now",) * 2)}, "m", "a" * 64, "b" * 64),
    }
    for name, one in odd.items():
        written = replace(one, vault="0" * 32, revision=1)
        put(tmp_path, vault._sealed(to_bytes(written), "a" * 64, None, None))
        assert "is damaged" in said(lambda: read_vault(tmp_path)), name
    put(tmp_path, vault._sealed(b"\xff" * 100, "a" * 64, None, None))
    assert "is damaged" in said(lambda: read_vault(tmp_path))
    fine = replace(prints(), vault="0" * 32, revision=1)
    put(tmp_path, vault._sealed(to_bytes(fine), "c" * 64, None, None))
    assert "two models" in said(lambda: read_vault(tmp_path))
