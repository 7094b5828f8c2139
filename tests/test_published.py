"""The recipes of published ground: what their comments tell a user to type is typed here, on tiny copies of data."""

import io
import json
import re
import shlex
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import sounds
from calling import Metavox, Said, caller

from metavox.config import Experiment, TranscriptionExperiment, load_recipe
from metavox.transcription import plans

ROOT = Path(__file__).parents[1]
RECIPES = ROOT / "recipes" / "published"
GROUNDS = ("splitgsc", "mswc", "fleurs", "metaaudio_voxceleb")
N_SPEAKERS = {"train": 876, "validation": 126, "test": 249}
"""Of MetaAudio's split."""

QUICK = {
    "words": [
        *("train.steps=2", "train.validation_episodes=2", "episodes.ways=3", "episodes.shots=1", "episodes.batch=1"),
        *("model.encoder.channels=8", "model.encoder.blocks=1", "model.encoder.dim=4"),
    ],
    "transcription": [
        *("recogniser.channels=16", "recogniser.blocks=1", "recogniser.dim=16", "train.steps=2"),
        *("train.batch_s=3", "data.validation_share=0.2"),
    ],
}
"""What a test changes in a recipe: its size, and nothing of what is drawn."""
SHORTER = {"--episodes": "2", "--max-test": "20", "--seeds": "1"}


def instructions(ground: str) -> list[str]:
    """The command lines in the comments of a recipe, in their order."""
    lines = (RECIPES / f"{ground}.yaml").read_text(encoding="utf-8").splitlines()
    return [line[4:] for line in lines if re.match(r"#   (metavox|for|grep|sed) ", line)]


def unrolled(line: str) -> Iterator[str]:
    """A command, or those of the first two rounds of a loop of the shell."""
    loop = re.fullmatch(r"for (\w+) in ([\w ]+); do (.*); done", line)
    if loop is None:
        yield line
        return
    for value in loop[2].split()[:2]:
        yield loop[3].replace(f"${loop[1]}", value)


def words_of(command: str, data: Path, kind: str) -> list[str]:
    """The words of a command after ``metavox``, made quick."""
    words = shlex.split(command.replace("$METAVOX_DATA", str(data)))[1:]
    if words[0] == "train":
        return [*words[:2], *QUICK[kind], *words[2:]]
    if "--minutes" in words:
        pairs = [words[i : i + 2] for i in range(len(words))]
        kept = [i for i, (first, *_) in enumerate(pairs) if first == "--minutes"]
        words = [word for i, word in enumerate(words) if i not in kept and i - 1 not in kept]
        words += ["--minutes", "0", "--minutes", "0.2"]
    return [SHORTER.get(words[i - 1], word) if i else word for i, word in enumerate(words)]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the recipes, and METAVOX_DATA below it."""
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("METAVOX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("METAVOX_DATA", str(tmp_path / "data"))
    return tmp_path


@pytest.fixture
def metavox(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Metavox:
    return caller(monkeypatch, capsys)


def follow(ground: str, place: Path, metavox: Metavox, kind: str = "words") -> list[dict[str, Any]]:
    """Type what a recipe says, and read what each evaluation answers."""
    answers = []
    for line in instructions(ground):
        for command in unrolled(line):
            if not command.startswith("metavox "):
                continue
            words = words_of(command, place / "data", kind)
            said: Said = metavox(*words, *(["--json"] if words[0] == "evaluate" else []))
            assert said.status == 0, f"{command}\n{said.err}"
            if words[0] == "evaluate":
                answers.append(json.loads(said.out))
            if words[0] == "train":
                answers.append({"notes": said.err})
    return answers


# ------------------------------------------------------------------------------------------------------------- recipes


@pytest.mark.parametrize("ground", GROUNDS)
def test_a_recipe_loads_and_says_how_it_is_followed(ground: str) -> None:
    path = RECIPES / f"{ground}.yaml"
    experiment = load_recipe(path)
    assert isinstance(experiment, TranscriptionExperiment if ground == "fleurs" else Experiment)
    verbs = [next(unrolled(line)).split()[1] for line in instructions(ground) if "metavox" in line]
    assert {"data", "train", "evaluate"} == set(verbs)
    assert f"recipes/published/{ground}.yaml" in " ".join(instructions(ground))
    text = path.read_text(encoding="utf-8")
    assert "docs/published.md" in text
    assert "We have not run this." in text


def test_every_ground_has_its_table() -> None:
    page = (ROOT / "docs" / "published.md").read_text(encoding="utf-8")
    assert sorted(path.stem for path in RECIPES.glob("*.yaml")) == sorted(GROUNDS)
    for ground in GROUNDS:
        assert f"recipes/published/{ground}.yaml" in page
    figures = [line for line in page.splitlines() if line.startswith("|") and re.search(r"\[(V2?|M)\]", line)]
    assert len(figures) > len(GROUNDS)
    assert page.count("| ours, not run |") == page.count("\n| work |") >= len(GROUNDS)
    for row in figures:
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert cells[-1] == "", f"nobody has measured {row}"
        assert re.search(r"\[V2?\]", row), f"no mark in {row}"
        assert "[M]" not in row


# ------------------------------------------------------------------------------------------------------------ splitGSC


def test_splitgsc(place: Path, metavox: Metavox) -> None:
    words = [f"word{number:02}" for number in range(35)]
    for word in words:
        for take in range(7):
            name = f"speech_commands_v0.02/{word}/{take:08x}_nohash_0.wav"
            sounds.write(place / name, sounds.say(word, sounds.SPEAKERS[take % 4], take))
    source = place / "speech_commands_v0.02"
    (source / "validation_list.txt").write_text("word00/00000000_nohash_0.wav\n")
    (source / "testing_list.txt").write_text("word00/00000001_nohash_0.wav\n")
    sides = {"train": words[:15], "validation": words[15:25], "test": words[25:]}
    for side, names in sides.items():
        (place / "data" / f"splitgsc_{side}.txt").write_text("\n".join(names))
    training, *answers = follow("splitgsc", place, metavox)
    assert "there are 15 classes to learn from and 10 to validate on." in training["notes"]
    assert [(a["ways"], a["shots"], a["queries"]) for a in answers] == [(5, 1, 15), (5, 5, 15), (5, 5, 15)]
    rows = place / "rows.jsonl"
    options = ["--classes", "splitgsc_test.txt", "--ways", 5, "--shots", 1, "--episodes", 6]
    assert metavox("evaluate", "dtw", "--corpus", "gsc_v2", *options, "--rows", rows).status == 0
    heard = {json.loads(line)["label"] for line in rows.read_text().splitlines()}
    assert heard <= {f"en:{word}" for word in sides["test"]}


def test_splitgsc_refuses_a_word_on_two_sides(place: Path, metavox: Metavox) -> None:
    sounds.word_folders(place / "data" / "gsc_v2", sounds.WORDS[:6], sounds.SPEAKERS[:1], 1)
    (place / "data" / "splitgsc_train.txt").write_text("tula\nrime\nsakko\n")
    (place / "data" / "splitgsc_validation.txt").write_text("febe\ntula\n")
    said = metavox("train", "recipes/published/splitgsc.yaml", *QUICK["words"], "--out", "exp")
    assert said.status == 2
    assert "tula is both in data.classes and in data.validation_classes; leave it in one." in said.err


# ---------------------------------------------------------------------------------------------------------------- MSWC


def spoken(folder: Path, words: Sequence[str], n_takes: int) -> None:
    rows = ["SET,LINK,WORD,VALID,SPEAKER,GENDER\n"]
    for word in words:
        for take in range(n_takes):
            link = f"{word}/common_voice_{folder.name}_{take}.opus"
            path = folder / "clips" / link
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(
                path, sounds.say(word, sounds.SPEAKERS[take % 4], take), 16_000, format="OGG", subtype="OPUS"
            )
            rows.append(f"TRAIN,{link},{word},True,{take:032x},NAN\n")
    (folder / f"{folder.name}_splits.csv").write_text("".join(rows), encoding="utf-8")


def test_mswc(place: Path, metavox: Metavox) -> None:
    for lang in ("en", "fr", "ca", "rw", "de", "it", "nl", "es", "fa"):
        spoken(place / "mswc" / "base" / lang, sounds.WORDS[:4], 6)
    experiment = load_recipe(RECIPES / "mswc.yaml")
    assert isinstance(experiment, Experiment)
    unseen = experiment.data.leave_out_languages
    loops = [line for line in instructions("mswc") if line.startswith("for ")]
    assert len(loops) == 2
    assert all(line.startswith(f"for lang in {' '.join(unseen)}; ") for line in loops)
    assert len(unseen) == 13
    for lang in unseen[:2]:
        spoken(place / "mswc" / lang, sounds.WORDS[4:6], 6)
    training, *answers = follow("mswc", place, metavox)
    assert "mswc_base" not in training["notes"]  # no group was left out
    assert [a["corpus"] for a in answers] == [f"mswc_{lang}" for lang in unseen[:2]]
    assert {(a["ways"], a["shots"], a["queries"]) for a in answers} == {(2, 5, 10)}  # 20 ways of two words are two
    about = json.loads((place / "exp" / "mswc" / "config.json").read_text())["about"]
    assert not set(about["languages"]) & set(unseen)
    assert len(about["languages"]) == 9


# -------------------------------------------------------------------------------------------------------------- FLEURS


def fleurs(folder: Path, part: str, n: int, seed: int) -> None:
    rng = np.random.default_rng([seed, len(part)])
    rows = []
    archive = folder / "audio" / f"{part}.tar.gz"
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        for number in range(n):
            spelled = ["".join(rng.choice(list("abdeiklmnotu"), 4)) for _ in range(3)]
            wave = np.concatenate([sounds.say(word) for word in spelled])
            file = io.BytesIO()
            soundfile.write(file, wave, 16_000, format="WAV")
            member = tarfile.TarInfo(f"{part}/{seed}{number:03}.wav")
            member.size = len(file.getvalue())
            file.seek(0)
            tar.addfile(member, file)
            text = " ".join(spelled)
            letters = text.replace(" ", "|")
            rows.append(f"{number}\t{seed}{number:03}.wav\t{text}.\t{text}\t{letters}\t{len(wave)}\tMALE\n")
    (folder / f"{part}.tsv").write_text("".join(rows), encoding="utf-8")


def test_fleurs(place: Path, metavox: Metavox, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("metavox", "fine-tune", "scratch"):
        way = plans.WAYS[name]
        short = replace(way.plan, tuning=replace(way.plan.tuning, steps=2), steps_per_s=0.0)
        monkeypatch.setitem(plans.WAYS, name, replace(way, plan=short))
    for number, folder in enumerate(("fr_fr", "sw_ke")):
        for part, n in (("train", 10), ("dev", 2), ("test", 10)):
            fleurs(place / "fleurs" / "data" / folder, part, n, number)
    _, answer = follow("fleurs", place, metavox, "transcription")
    assert (answer["languages"], answer["n_test"], answer["language_seen_in_training"]) == (["sw"], 10, False)
    assert answer["learners"] == ["metavox", "fine-tune", "scratch"]
    about = json.loads((place / "exp" / "fleurs_sw" / "config.json").read_text())["about"]
    assert about["languages"] == ["fr"]


# ------------------------------------------------------------------------------------------------------------ VoxCeleb


def speakers_of(place: Path) -> dict[str, list[str]]:
    """The lists that the recipe makes."""
    return {side: (place / "data" / f"metaaudio_voxceleb_{side}.txt").read_text().split() for side in N_SPEAKERS}


@pytest.fixture
def names() -> list[str]:
    numbers = np.random.default_rng(0).permutation(1251) + 10_001
    return [f"id{number}" for number in numbers]


def test_the_published_split_is_read_without_opening_the_pickle(place: Path, names: list[str]) -> None:
    ends = np.cumsum([0, *N_SPEAKERS.values()])
    sides = [names[start:end] for start, end in pairwise(ends)]
    whole = np.empty(3, object)
    whole[:] = sides
    np.save(place / "VoxCeleb_norm_split.npy", whole, allow_pickle=True)  # as theirs was made
    for line in instructions("metaaudio_voxceleb"):
        if not line.startswith("metavox"):
            subprocess.run(["bash", "-c", line], check=True, cwd=place)
    found = speakers_of(place)
    assert list(found.values()) == sides
    assert {side: len(set(some)) for side, some in found.items()} == N_SPEAKERS
    assert len(set().union(*found.values())) == sum(N_SPEAKERS.values())


def test_metaaudio_voxceleb(place: Path, metavox: Metavox) -> None:
    people = [f"id{10_001 + number}" for number in range(18)]
    rows = ["VoxCeleb1 ID\tVGGFace1 ID\tGender\tNationality\tSet\n"]
    for name in people:
        rows.append(f"{name}\tN._N.\tf\tUSA\tdev\n")
        for take in range(3):
            wave = sounds.say(f"sentence{take}", name, take)
            sounds.write(place / "voxceleb1" / "wav" / name / "1zcIwhmdeo4" / f"{take:05d}.wav", wave)
    (place / "voxceleb1" / "vox1_meta.csv").write_text("".join(rows))
    for side, some in (("train", people[:6]), ("validation", people[6:12]), ("test", people[12:])):
        (place / "data" / f"metaaudio_voxceleb_{side}.txt").write_text("\n".join(some))
    training, answer = follow("metaaudio_voxceleb", place, metavox)
    assert "there are 6 classes to learn from and 6 to validate on." in training["notes"]
    assert (answer["along"], answer["ways"], answer["shots"], answer["queries"]) == ("speaker", 5, 1, 1)
    assert answer["n"] == 2 * 5 * 1
