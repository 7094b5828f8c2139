"""A known voice helps: what it gains that a clip is recognised as the person sounds whose voice it is most likely.

    python benchmarks/known_voice.py words --set bengali_digits --commands MODEL --voices VOICES   # each set
    python benchmarks/known_voice.py sentences --base RECOGNISER --voices VOICES --speakers FILE
    python benchmarks/known_voice.py pool                                  # benchmarks/known_voice.json
    python benchmarks/known_voice.py tell                                  # the figures for docs/speakers.md

Neither the model of commands (``leave_one_set_out.py``) nor that of voices has heard the set, and neither the
recogniser (``transcription.py``) nor the model of voices the speakers. What is dear is kept in ``--work``: how alike
clips are, and the errors of every adapted recogniser on everybody's sentences; another model of voices is then
measured in a minute.

*Words*: households of three to five people, who all enrolled the same ten words with one or three takes, which are
clips of their voices too. Each member says other takes, and so do guests, whom nobody enrolled. *Pooled* knows no
voices: all takes of the house. *Known* weighs the members' own takes with how likely their voices are
(``runtime.known_voice``); *told* is given the right name, *another* always a wrong one: what it gains is not the
voice's. *Sentences*: ten of each person adapt a recogniser and enrol
the voice, ten others are heard by the recogniser whose voice is most likely among four, by that of the right person,
by that of another one, and by the one that was adapted to nobody. Differences are paired, clip by clip, with intervals
over speakers and households.
"""

import argparse
import itertools
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transcription import VOICE_SENTENCES, _voices

from metavox.audio import read
from metavox.calibration import Probabilities, calibrate, fit_probabilities
from metavox.calibration.probabilities import probabilities
from metavox.checkpoint import load_model
from metavox.contracts import InputError
from metavox.data.corpora import open_corpora, require
from metavox.losses.nearest import leave_one_out_nearest, nearest_scores, nearest_within
from metavox.runtime.enrolment import nearest_reference
from metavox.runtime.known_voice import P_KNOWN, own_share, weighed
from metavox.statistics import PairedDifference, paired_bootstrap, stratified_paired_difference
from metavox.transcription.adaptation import adapt_recogniser
from metavox.transcription.adapting import heard
from metavox.transcription.models import load_recogniser
from metavox.transcription.plans import DEFAULT_PLAN, way
from metavox.transcription.scoring import errors_of
from metavox.transcription.support import sentences_of
from metavox.voices.encoders import load_voices
from metavox.voices.gallery import posteriors
from metavox.voices.heard import Heard, together
from metavox.voices.models import VoiceModel

HERE = Path(__file__).parent
SHOTS, N_WORDS, N_ASKED, SIZES, REPEATS = (1, 3), 10, 2, (3, 4, 5), 10
N_HOUSE = 4
"""People who transcribe together."""
PRIORS = (math.inf, 8.0, 5.0, 3.0, 2.0, 1.0, 0.0)
"""So many own takes of a word does a member need for the own answer to count as much as that of all takes; without end
no voice is known, with 0 own takes alone count."""

# --------------------------------------------------------------------------------------------------------------- words


@dataclass(frozen=True)
class Alike:
    """Clips of a set: who says what, how alike they are to a model of commands, and how common each is to it."""

    similarity: torch.Tensor
    """(clips, takes): the takes that may be enrolled are the first of the clips."""
    commonness: np.ndarray
    paths: list[Path]
    speaker: np.ndarray
    label: np.ndarray
    scale: float
    nearness: float
    about: dict[str, Any]

    @property
    def n_takes(self) -> int:
        """Clips that may be enrolled."""
        return self.similarity.shape[1]

    def scores(self, takes: np.ndarray, labels: np.ndarray, clips: np.ndarray) -> np.ndarray:
        """What ``learners.metric`` gives the clips, with these takes enrolled."""
        asked, found = torch.from_numpy(labels), self.similarity[takes][:, takes]
        within = nearest_within(found, asked, N_WORDS, self.nearness)
        values = nearest_scores(self.similarity[clips][:, takes], asked, within, self.nearness).double().numpy()
        return self.scale * (values - self.commonness[clips, None])

    def fitted(self, takes: np.ndarray, labels: np.ndarray) -> Probabilities:
        """Threshold and temperature, as an enrolment without negatives sets them."""
        found = leave_one_out_nearest(
            self.similarity[takes][:, takes], torch.from_numpy(labels), N_WORDS, self.nearness
        )
        scores = self.scale * (found.double().numpy() - self.commonness[takes, None])
        rows = np.arange(len(takes))
        own, others = scores[rows, labels], scores.copy()
        others[rows, labels] = -np.inf
        reference = nearest_reference(self.about, len(takes) / N_WORDS)
        threshold = calibrate(own[np.isfinite(own)], others.max(axis=1), reference).threshold
        return fit_probabilities(scores, labels, threshold, reference=reference)


def alike(name: str, commands: Path, path: Path) -> Alike:
    """All clips of a set as a model of commands hears them; computed once and kept in ``path``.

    Of each speaker and word three takes may be enrolled and two are asked.
    """
    model = load_model(commands)
    bank = open_corpora([require(name)], model.config.front_end)
    cells: dict[tuple[str, str], list[int]] = defaultdict(list)
    for position, one in enumerate(bank.utterances):
        cells[str(one.speaker), str(one.label)].append(position)
    support, query = [], []
    for number, (_, at) in enumerate(sorted(cells.items())):
        order = np.random.default_rng([0, number]).permutation(at).tolist()
        if len(order) > max(SHOTS):
            support += order[: max(SHOTS)]
            query += order[max(SHOTS) : max(SHOTS) + N_ASKED]
    clips = np.asarray([*support, *query])
    learner: Any = model.learner
    if not path.exists():
        with torch.no_grad():
            takes, lengths = learner._takes(
                bank.batch(np.asarray(support), np.zeros(len(support), int), 1, bank.front_end)
            )
            frames, n_frames = learner.embed(bank.batch(clips, np.zeros(len(clips), int), 1, bank.front_end))
            similarity = [
                learner.similarity(frames[part], n_frames[part], takes, lengths)
                for part in torch.arange(len(clips)).split(8)
            ]
            common = [learner.commonness(frames[part], n_frames[part]) for part in torch.arange(len(clips)).split(64)]
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, similarity=torch.cat(similarity).numpy(), commonness=torch.cat(common).numpy())
    kept = np.load(path, allow_pickle=False)
    asked = [bank.utterances[position] for position in clips]
    return Alike(
        torch.from_numpy(kept["similarity"]), kept["commonness"].astype(np.float64), [one.path for one in asked],
        np.array([one.speaker for one in asked]), np.array([one.label for one in asked]),
        float(learner.log_scale.detach().exp()), learner.nearness, dict(model.about),
    )  # fmt: skip


def households(people: Sequence[str], seed: int) -> Iterator[tuple[str, ...]]:
    """Everybody in households of three, four and five, each person once; one or two may be left over."""
    rng = np.random.default_rng([seed, 0])
    left, sizes = list(rng.permutation(sorted(people))), itertools.cycle(rng.permutation(SIZES).tolist())
    while len(left) >= min(SIZES):
        size = min(next(sizes), len(left))
        yield tuple(map(str, left[:size]))
        left = left[size:]


def words(name: str, commands: Path, voices: str, work: Path) -> None:
    """Answers of all households of one set; leaves ``rows.npz``."""
    torch.set_num_threads(1)
    model = load_voices(voices)
    if name in model.about.get("corpora", ()) or name in load_model(commands).about["corpora"]:
        raise InputError(f"{name} was trained on; give models that never heard it.")
    clips = alike(name, commands, work / name / "alike.npz")
    rate_hz = model.encoder.rate_hz
    voice = together([model.hear([read(path, rate_hz)]) for path in clips.paths])
    columns: dict[str, list[np.ndarray]] = defaultdict(list)
    for repeat in range(REPEATS):
        for number, house in enumerate(households(np.unique(clips.speaker).tolist(), repeat)):
            rng = np.random.default_rng([repeat, 1, number])
            for shots in SHOTS:
                for key, values in answers(clips, voice, model, house, shots, rng).items():
                    columns[key].append(values)
                columns["household"].append(np.full(len(values), 1000 * repeat + number))
                columns["shots"].append(np.full(len(values), shots))
    found = {key: np.concatenate(values) for key, values in columns.items()}
    np.savez(work / name / "rows.npz", **found)
    about = {
        "corpus": name,
        "commands_hash": load_model(commands).hash,
        "voices": model.name,
        "voices_hash": model.hash,
    }
    (work / name / "about.json").write_text(json.dumps(about | {"speakers": len(np.unique(clips.speaker))}))


def answers(
    clips: Alike, voice: Heard, model: VoiceModel, house: Sequence[str], shots: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """What one household is answered, and half as many guests.

    ``right``: the word that was said. ``forced``: the same without the answer "none". ``refused``: "none" where the
    word that was said is treated as if nobody had enrolled it. ``answered``: the mean of the first and the last, so
    that who refuses more gains nothing by it. A column for each of ``PRIORS``; *known*, *told*, *another*.
    """
    chosen = rng.permutation(np.unique(clips.label))[:N_WORDS].tolist()
    of = np.array([chosen.index(label) if label in chosen else -1 for label in clips.label])
    may = (np.arange(len(of)) < clips.n_takes) & (of >= 0)
    takes = [
        np.concatenate(
            [
                rng.permutation(np.flatnonzero(may & (clips.speaker == who) & (of == word)))[:shots]
                for word in range(N_WORDS)
            ]
        )
        for who in house
    ]
    inside = np.isin(clips.speaker, house)
    asked = (np.arange(len(of)) >= clips.n_takes) & (of >= 0)
    members = np.flatnonzero(asked & inside)
    guests = rng.permutation(np.flatnonzero(asked & ~inside))[: len(members) // 2]
    at = np.concatenate([members, guests])
    speaker = np.array([house.index(who) if who in house else -1 for who in clips.speaker[at]])
    all_takes = np.concatenate(takes)
    scored = [(clips.scores(one, of[one], at), clips.fitted(one, of[one])) for one in (all_takes, *takes)]
    chances, unknown = posteriors(model.llr([voice.at(one) for one in takes], voice.at(at)), P_KNOWN)
    told = (speaker[:, None] == np.arange(len(house))).astype(float)
    named = np.where(chances.max(axis=1) > unknown, chances.argmax(axis=1), -1)
    found = {"speaker": clips.speaker[at], "guest": speaker < 0, "named": named == speaker}
    for kind, weights in (("known", chances), ("told", told), ("another", np.roll(told, 1, axis=1))):
        for what, values in _judged(scored, weights, of[at], shots).items():
            found[f"{what} {kind}"] = values
    return found


def _judged(
    scored: Sequence[tuple[np.ndarray, Probabilities]], weights: np.ndarray, said: np.ndarray, shots: int
) -> dict[str, np.ndarray]:
    """(clips, priors) of each kind of answer."""
    rows = np.arange(len(said))
    with_word = [probabilities(scores, fitted) for scores, fitted in scored]
    without = []
    for scores, fitted in scored:
        masked = scores.copy()
        masked[rows, said] = -np.inf
        without.append(probabilities(masked, fitted))
    found: dict[str, list[np.ndarray]] = {"right": [], "forced": [], "refused": []}
    for prior in PRIORS:
        share = own_share(shots, prior)
        mixed, lacking = (
            np.stack([weighed(part[0][i], np.stack([one[i] for one in part[1:]]), weights[i], share) for i in rows])
            for part in (with_word, without)
        )
        found["right"].append(mixed.argmax(axis=1) == said)
        found["forced"].append(mixed[:, :-1].argmax(axis=1) == said)
        found["refused"].append(lacking.argmax(axis=1) == N_WORDS)
    table = {what: np.stack(values, axis=1) for what, values in found.items()}
    return table | {"answered": (table["right"].astype(float) + table["refused"]) / 2}


# ----------------------------------------------------------------------------------------------------------- sentences


def sentences(base: Path, voices: str, speakers: Path, work: Path) -> None:
    """Errors of every recogniser on everybody, and how likely every voice is; leaves ``sentences.json``."""
    torch.set_num_threads(1)
    recogniser = load_recogniser(base)
    model = load_voices(voices)
    named = set(speakers.read_text().split())
    left_out = json.loads((base / "config.json").read_text())["about"]["left_out"]
    rng = np.random.default_rng(0)
    people = {}
    for speaker, members in sorted(_voices().items()):
        order = rng.permutation(len(members))  # the draws of ``transcription.py voices``
        own, others = ([members[i] for i in sorted(part)] for part in np.split(order[:VOICE_SENTENCES], 2))
        if speaker in named and speaker in left_out and speaker not in model.about.get("speakers", ()):
            people[speaker] = (own, others)
    if len(people) < 2:
        raise InputError(f"{speakers} names {len(people)} people with {VOICE_SENTENCES} sentences; name others.")
    tests = {
        name: sentences_of(o, range(len(o)), recogniser.symbols, recogniser.front_end)
        for name, (_, o) in people.items()
    }

    def edits(one: Any) -> dict[str, list[int]]:
        return {
            name: errors_of(heard(one, test, np.arange(len(test))), test.utterances).char_edits.tolist()
            for name, test in tests.items()
        }

    kept = work / "sentences"
    kept.mkdir(parents=True, exist_ok=True)
    for name in ["", *people]:
        path = kept / f"{name or 'nobody'}.json"
        if not path.exists():
            one = (
                recogniser
                if not name
                else adapt_recogniser(recogniser, people[name][0], way(DEFAULT_PLAN).plan).recognition
            )
            path.write_text(json.dumps(edits(one)))
            print(path.stem, flush=True)
    rate_hz = model.encoder.rate_hz
    enrolled = [model.hear([read(one.path, rate_hz) for one in own]) for own, _ in people.values()]
    asked = {name: model.hear([read(one.path, rate_hz) for one in others]) for name, (_, others) in people.items()}
    found = {
        "base": base.name, "voices": model.name, "voices_hash": model.hash, "people": list(people),
        "chars": {
            name: errors_of(heard(recogniser, test, np.arange(len(test))), test.utterances).chars.tolist()
            for name, test in tests.items()
        },
        "errors": {name: json.loads((kept / f"{name or 'nobody'}.json").read_text()) for name in ["", *people]},
        "llr": {name: model.llr(enrolled, one).tolist() for name, one in asked.items()},
    }  # fmt: skip
    (work / "sentences.json").write_text(json.dumps(found))


# ---------------------------------------------------------------------------------------------------------------- pool


def pool(work: Path) -> dict[str, Any]:
    """What was gained; how much own takes count is chosen on the sets that a figure is not of."""
    tables = {path.parent.name: dict(np.load(path, allow_pickle=False)) for path in sorted(work.glob("*/rows.npz"))}
    found: dict[str, Any] = {"version": version("metavox"), "words": {}}
    for shots in SHOTS:
        found["words"][f"{shots} takes"] = _words_told(tables, shots)
    found["words"]["about"] = {name: json.loads((work / name / "about.json").read_text()) for name in tables}
    found["words"]["prior_takes_chosen_on_all"] = {
        kind: _told_prior(_best(tables.values(), kind)) for kind in ("known", "told")
    }
    if (work / "sentences.json").exists():
        found["sentences"] = _sentences_told(json.loads((work / "sentences.json").read_text()))
    return found


def _best(tables: Iterable[dict[str, np.ndarray]], kind: str) -> int:
    """The prior with most answered, members and guests as they come; every set and number of takes alike."""
    means = [table[f"answered {kind}"][table["shots"] == shots].mean(axis=0) for table in tables for shots in SHOTS]
    return int(np.mean(means, axis=0).argmax())


def _told_prior(place: int) -> float | None:
    return PRIORS[place] if math.isfinite(PRIORS[place]) else None


def _words_told(tables: dict[str, dict[str, np.ndarray]], shots: int) -> dict[str, Any]:
    """One number of takes: each set with the prior that the others chose, and all together."""
    told: dict[str, Any] = {"sets": {}}
    pairs: dict[str, dict[str, Any]] = defaultdict(dict)
    for name, answered in tables.items():
        others = [other for key, other in tables.items() if key != name] or [answered]
        share = {kind: _best(others, kind) for kind in ("known", "told")}
        share["another"] = share["known"]
        table = {key: values[answered["shots"] == shots] for key, values in answered.items()}
        one: dict[str, Any] = {
            "n_households": len(np.unique(table["household"])), "n": int((~table["guest"]).sum()),
            "speaker_named": float(table["named"][~table["guest"]].mean()),
            "guests_unknown": float(table["named"][table["guest"]].mean()),
            "prior_takes": {kind: _told_prior(place) for kind, place in share.items()},
        }  # fmt: skip
        for what in ("answered", "right", "refused", "forced"):
            for who, rows in (("members", ~table["guest"]), ("guests", table["guest"])):
                clusters = [table["speaker"][rows], table["household"][rows]]
                pooled = table[f"{what} known"][rows, 0].astype(float)
                one[f"{what} of {who}"] = {"pooled": float(pooled.mean())}
                for kind in ("known", "told", "another") if who == "members" else ("known",):
                    values = table[f"{what} {kind}"][rows]
                    ours = values[:, share[kind]].astype(float)
                    gap = paired_bootstrap(ours, pooled, seed=0, clusters=clusters)
                    pairs[f"{what} of {who}, {kind}"][name] = (ours, pooled, clusters)
                    one[f"{what} of {who}"] |= {
                        kind: float(ours.mean()), f"{kind} - pooled": _gap(gap),
                        f"{kind} by prior takes": dict(zip(map(str, PRIORS), values.mean(0).tolist(), strict=True)),
                    }  # fmt: skip
        members = ~table["guest"]
        for what in ("answered", "forced"):
            ours, wrong = (
                table[f"{what} {kind}"][members, share["known"]].astype(float) for kind in ("known", "another")
            )
            clusters = [table["speaker"][members], table["household"][members]]
            one[f"{what} of members"]["known - another"] = _gap(
                paired_bootstrap(ours, wrong, seed=0, clusters=clusters)
            )
            pairs[f"{what} of members, known - another"][name] = (ours, wrong, clusters)
        told["sets"][name] = one
    told["over_sets"] = {}
    for what, by_set in pairs.items():
        over = stratified_paired_difference(by_set, seed=0)
        told["over_sets"][what] = _gap(over) | {"worst": over.worst_set}
    return told


def _gap(gap: PairedDifference) -> dict[str, Any]:
    return {
        "difference": gap.difference,
        "ci95": gap.ci95,
        "p_value": gap.p_value,
        "helps": gap.ci95[0] is not None and gap.ci95[0] > 0,
    }


def _sentences_told(found: dict[str, Any]) -> dict[str, Any]:
    """Errors with the recogniser that is chosen, in all households of four and for guests of each."""
    people = found["people"]
    columns: dict[str, list[Any]] = defaultdict(list)
    for house in itertools.combinations(range(len(people)), min(N_HOUSE, len(people) - 1)):
        for number, name in enumerate(people):
            chances, unknown = posteriors(np.asarray(found["llr"][name])[:, list(house)], P_KNOWN)
            for place, (row, nobody) in enumerate(zip(chances, unknown, strict=True)):
                chosen = people[house[int(row.argmax())]] if row.max() > nobody else ""
                others = [people[i] for i in house if i != number]
                columns["speaker"].append(name)
                columns["guest"].append(number not in house)
                columns["right"].append(chosen == ("" if number not in house else name))
                columns["chars"].append(found["chars"][name][place])
                for kind, adapted in (("general", [""]), ("known", [chosen]), ("told", [name]), ("another", others)):
                    columns[kind].append(np.mean([found["errors"][one][name][place] for one in adapted]))
    table = {key: np.asarray(values) for key, values in columns.items()}
    told: dict[str, Any] = {key: found[key] for key in ("base", "voices", "voices_hash", "people")}
    for who, rows in (("members", ~table["guest"]), ("guests", table["guest"])):
        at = {key: values[rows] for key, values in table.items()}
        told[who] = {"named_right": float(at["right"].mean())}
        for kind in ("general", "known", "told", "another") if who == "members" else ("general", "known"):
            told[who][f"cer {kind}"] = float(at[kind].sum() / at["chars"].sum())
            if kind != "general":
                gap = paired_bootstrap(at["general"], at[kind], seed=0, clusters=at["speaker"], per=at["chars"])
                told[who][f"{kind} - general, errors fewer"] = _gap(gap)
        if who == "members":
            gap = paired_bootstrap(at["known"], at["told"], seed=0, clusters=at["speaker"], per=at["chars"])
            told[who]["told - known, errors fewer"] = _gap(gap)
    return told


# -------------------------------------------------------------------------------------------------------------- telling


def told(found: dict[str, Any]) -> str:
    """What was found, in plain words, for docs/speakers.md."""
    parts = [
        "Households of three to five people, ten words; each clip is asked twice, with its word enrolled and without, "
        "when a refusal is right. Neither model had heard the set. Differences in points with 95 % intervals over "
        "speakers and households."
    ]
    for takes in (key for key in found["words"] if key.endswith("takes")):
        one = found["words"][takes]
        for name, of in one["sets"].items():
            answered, forced, guests = of["answered of members"], of["forced of members"], of["answered of guests"]
            right, refused = of["right of members"], of["refused of members"]
            parts.append(
                f"`{name}`, {takes.replace('1 takes', '1 take')} of a word each: {_share(answered['pooled'])} with all "
                f"takes alike, {_share(answered['known'])} with the known voice "
                f"({_points(answered['known - pooled'])}), {_share(answered['told'])} where the name is told, "
                f"{_share(answered['another'])} where a wrong one is. Of these, "
                f"words that were enrolled {_share(right['pooled'])} and {_share(right['known'])} "
                f"({_points(right['known - pooled'])}), words that were not {_share(refused['pooled'])} and "
                f"{_share(refused['known'])} ({_points(refused['known - pooled'])}). Where a word must be answered, "
                f"{_share(forced['pooled'])} and {_share(forced['known'])} ({_points(forced['known - pooled'])}). "
                f"Guests, whom nobody enrolled: {_share(guests['pooled'])} and {_share(guests['known'])} "
                f"({_points(guests['known - pooled'])}). The right member was named for {_share(of['speaker_named'])} "
                f"of the clips, and nobody for {_share(of['guests_unknown'])} of the guests'."
            )
        over = one["over_sets"]
        gained, wrong = over["answered of members, known"], over["answered of members, known - another"]
        parts.append(
            f"Over the sets, {takes.replace('1 takes', '1 take')}: {_points(gained)}, least for `{gained['worst']}`. "
            f"Beside a wrong name, with as much of that member's takes: {_points(wrong)}. Where a word must be "
            f"answered: {_points(over['forced of members, known'])}."
        )
    if "sentences" in found:
        members, guests = found["sentences"]["members"], found["sentences"]["guests"]
        parts.append(
            f"Sentences of {len(found['sentences']['people'])} speakers, in households of {N_HOUSE}: "
            f"{_share(members['cer general'])} character errors with the general recogniser, "
            f"{_share(members['cer known'])} with that of the likeliest voice "
            f"(fewer by {_points(members['known - general, errors fewer'])}), {_share(members['cer told'])} where the "
            f"name is told, {_share(members['cer another'])} with another member's. The right recogniser was chosen "
            f"for {_share(members['named_right'])} of the sentences; of guests' sentences "
            f"{_share(guests['named_right'])} went to the general one, and they had fewer errors by "
            f"{_points(guests['known - general, errors fewer'])}."
        )
    return "\n".join(f"- {part}" for part in parts)


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"


def _points(gap: dict[str, Any]) -> str:
    low, high = gap["ci95"]
    verdict = "" if low is None or low > 0 or high < 0 else ", no proven difference"
    between = "unknown" if low is None else f"{100 * low:+.1f} to {100 * high:+.1f}"
    return f"{100 * gap['difference']:+.1f} points, {between}{verdict}"


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("do", choices=["words", "sentences", "pool", "tell"])
    parser.add_argument("--set", help="corpus of words")
    parser.add_argument("--commands", type=Path, help="model of commands that never heard the set")
    parser.add_argument("--base", type=Path, help="recogniser that never heard the speakers")
    parser.add_argument("--voices", default="metavox/speaker-small", help="model of voices that heard neither")
    parser.add_argument("--speakers", type=Path, help="file with a name a line")
    parser.add_argument("--work", type=Path, default=Path("exp/known_voice"))
    parser.add_argument("--out", type=Path, default=HERE / "known_voice.json")
    asked = parser.parse_args()
    if asked.do == "words":
        words(asked.set, asked.commands, asked.voices, asked.work)
    elif asked.do == "sentences":
        sentences(asked.base, asked.voices, asked.speakers, asked.work)
    elif asked.do == "pool":
        asked.out.write_text(json.dumps(pool(asked.work), ensure_ascii=False, indent=1) + "\n")
    if asked.do in ("pool", "tell"):
        print(told(json.loads(asked.out.read_text())))


if __name__ == "__main__":
    main()
