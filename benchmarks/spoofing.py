"""Attacks on verification: replayed recordings of the owner, and synthetic voices pitched towards the owner's.

    python benchmarks/spoofing.py measure --voices exp/voices --speakers test_speakers.txt   # benchmarks/spoofing.json
    python benchmarks/spoofing.py tell                                      # the paragraph for docs/speakers.md

Every speaker is an owner once, enrolled with three clips. Accepted is what reaches a log-likelihood ratio of 0, the
default threshold, or of 4.6, odds of 100 to 1. Nobody of them may have been heard in training, which is checked; what
else ``runtime.verifier`` refuses (two persons in a clip, too little speech) is not asked.

*same clip*: an enrolled recording, byte by byte. *replayed*: the same out of a loudspeaker, through a room and a
codec. *replayed, other words*: so another recording of the owner, whom nobody enrolled with it. *synthetic*: espeak-ng
says the owner's sentences with the median pitch and the tempo of the owner. *pitched*: another person, resampled to
the owner's pitch. No voice that was cloned from recordings of the owner is tried.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from metavox.audio import read
from metavox.augment.channel import clip_peaks, limit_band, through_codec
from metavox.augment.rooms import draw_room, response, reverberate
from metavox.augment.wave import coloured_noise, limit_peak, mix, speed
from metavox.contracts import InputError, Utterance
from metavox.data.corpora import require
from metavox.data.manifests import load_corpus
from metavox.data.synth_process import Voice
from metavox.data.synth_speakers import HIGH_VARIANTS, LOW_VARIANTS
from metavox.statistics import clopper_pearson
from metavox.voices.encoders import load_voices
from metavox.voices.heard import Heard, together
from metavox.voices.models import VoiceModel
from metavox.voices.speech import spoken

HERE = Path(__file__).parent
RATE_HZ = 16_000
N_ENROLLED, N_GENUINE, N_VARIANTS, N_PITCHED = 3, 5, 6, 6
THRESHOLDS = (0.0, 4.6)
CHAINS: dict[str, dict[str, Any]] = {
    "replayed, near": {"band_hz": (150.0, 7000.0), "rt60_s": (0.2, 0.4), "codec": "vorbis", "snr_db": 30.0},
    "replayed, far": {"band_hz": (300.0, 4500.0), "rt60_s": (0.5, 0.8), "codec": "opus", "snr_db": 15.0},
}
"""A good loudspeaker beside the microphone; that of a telephone across a living room."""
CLIPPED = 0.002
"""Share of samples that a small loudspeaker played loud cuts off."""
PITCH_HZ = (70.0, 450.0)
VOICED = 0.5
"""Of the energy of a frame, what its best period has to explain."""
RATE_WPM, PITCHES = (90, 320), (5, 30, 55, 80, 99)
"""What espeak-ng is asked for; its variants differ in what a pitch means, so some are tried."""

Wave = Float[np.ndarray, " _S"]


@dataclass(frozen=True)
class Owner:
    """One who enrols, and what the attacks know: recordings, their texts, pitch and tempo."""

    name: str
    enrolled: list[Wave]
    genuine: list[Wave]
    texts: list[str]
    pitch_hz: float
    chars_per_s: float


def owners_of(utterances: Sequence[Utterance], rng: np.random.Generator) -> list[Owner]:
    """Everybody with at least one clip more than is enrolled."""
    members: dict[str, list[Utterance]] = {}
    for one in utterances:
        members.setdefault(str(one.speaker), []).append(one)
    found = []
    for name, own in sorted(members.items()):
        if len(own) <= N_ENROLLED:
            continue
        chosen = [own[i] for i in rng.permutation(len(own))[: N_ENROLLED + N_GENUINE]]
        waves = [read(one.path, RATE_HZ) for one in chosen]
        texts = [one.text for one in chosen[:N_ENROLLED]]
        enrolled = waves[:N_ENROLLED]
        tempo = sum(map(len, texts)) / sum(spoken(wave, RATE_HZ).speech_s for wave in enrolled)
        pitch = float(np.median(np.concatenate([pitches(wave) for wave in enrolled])))
        found.append(Owner(name, enrolled, waves[N_ENROLLED:], texts, pitch, tempo))
    return found


def pitches(wave: Wave) -> Float[np.ndarray, " T"]:
    """Fundamental frequency in Hz of the voiced frames, by the normalised autocorrelation of 50 ms every 20 ms."""
    size, hop = RATE_HZ // 20, RATE_HZ // 50
    if len(wave) < size:
        return np.zeros(0)
    frames = np.lib.stride_tricks.sliding_window_view(wave.astype(np.float64), size)[::hop]
    frames = frames - frames.mean(axis=1, keepdims=True)
    energy = np.square(frames).sum(axis=1)
    loud = energy > 0.05 * np.quantile(energy, 0.95)
    frames, energy = frames[loud], energy[loud]
    lags = np.arange(int(RATE_HZ / PITCH_HZ[1]), int(RATE_HZ / PITCH_HZ[0]) + 1)
    power = np.abs(np.fft.rfft(frames, 2 * size, axis=1)) ** 2
    against = np.fft.irfft(power, axis=1)[:, lags] * (size / (size - lags)) / np.maximum(energy, 1e-12)[:, None]
    highest = against.max(axis=1)
    peak = np.zeros(against.shape, bool)
    peak[:, 1:-1] = (against[:, 1:-1] >= against[:, :-2]) & (against[:, 1:-1] > against[:, 2:])
    first = (peak & (against > 0.9 * highest[:, None])).argmax(
        axis=1
    )  # the shortest that does as well: no octave below
    return RATE_HZ / lags[first[highest > VOICED]]


# ------------------------------------------------------------------------------------------------------------- attacks


def replayed(wave: Wave, rng: np.random.Generator, *, band_hz: Any, rt60_s: Any, codec: str, snr_db: float) -> Wave:
    """A clip out of a loudspeaker, through a room, to a microphone whose recording is coded."""
    out = clip_peaks(limit_band(wave, RATE_HZ, *band_hz), CLIPPED)
    out = reverberate(out, response(draw_room(rng, rt60_s), RATE_HZ))
    out = mix(out, RATE_HZ, coloured_noise(len(out), "pink", rng), RATE_HZ, snr_db, rng)
    return through_codec(limit_peak(out), RATE_HZ, codec)


def synthetic(voice: Voice, owner: Owner, variant: str, text: str, folder: Path) -> Wave:
    """A sentence by espeak-ng as fast as the owner, at that of some pitches which comes nearest."""

    def said(rate_wpm: int, pitch: int) -> Wave:
        path = folder / "said.wav"
        take = {"voice": f"en-us+{variant}", "text": text, "rate_wpm": rate_wpm, "pitch": pitch, "pitch_range": 50}
        voice.ask({"do": "render", "takes": [{**take, "path": str(path)}]}, f"saying {text!r}")
        return read(path, RATE_HZ)

    first = said(175, PITCHES[2])
    wanted_s = len(text) / owner.chars_per_s
    rate_wpm = int(np.clip(round(175 * (len(first) / RATE_HZ) / wanted_s), *RATE_WPM))
    tried = [said(rate_wpm, pitch) for pitch in PITCHES]
    return min(tried, key=lambda wave: _octaves(pitches(wave), owner.pitch_hz))


def _octaves(found: Float[np.ndarray, " T"], wanted_hz: float) -> float:
    return abs(float(np.log2(np.median(found) / wanted_hz))) if len(found) else np.inf


def attacks(
    owner: Owner, others: Sequence[Owner], voice: Voice, rng: np.random.Generator
) -> Iterator[tuple[str, Wave]]:
    """What is tried on one owner: the kind and the clip."""
    for wave in owner.enrolled:
        yield "same clip", wave
        for name, chain in CHAINS.items():
            yield name, replayed(wave, rng, **chain)
    for wave in owner.genuine[:N_ENROLLED]:
        for name, chain in CHAINS.items():
            yield f"{name}, other words", replayed(wave, rng, **chain)
    variants = [
        pool[i] for pool in (LOW_VARIANTS, HIGH_VARIANTS) for i in rng.permutation(len(pool))[: N_VARIANTS // 2]
    ]
    with tempfile.TemporaryDirectory() as folder:
        for place, variant in enumerate(variants):
            yield "synthetic", synthetic(voice, owner, variant, owner.texts[place % len(owner.texts)], Path(folder))
    near = sorted(others, key=lambda other: abs(np.log2(other.pitch_hz / owner.pitch_hz)))[:N_PITCHED]
    for other in near:
        yield "pitched", speed(other.enrolled[0], RATE_HZ, float(np.clip(owner.pitch_hz / other.pitch_hz, 0.6, 1.6)))


# ------------------------------------------------------------------------------------------------------------ measuring


def measure(voices: str, corpus: str, speakers: Path | None, seed: int) -> dict[str, Any]:
    """All attacks on all owners.

    Raises:
        InputError: a speaker whom the model was trained on, or nobody left.
    """
    torch.set_num_threads(1)
    model = load_voices(voices)
    utterances = load_corpus(require(corpus))
    wanted = None if speakers is None else set(speakers.read_text().split())
    heard_before = set(model.about.get("speakers", ()))
    chosen = [one for one in utterances if one.speaker is not None and (wanted is None or one.speaker in wanted)]
    if wanted is None:
        chosen = [one for one in chosen if one.speaker not in heard_before]
    trained_on = sorted({str(one.speaker) for one in chosen} & heard_before)
    if trained_on:
        raise InputError(f"{voices} was trained on {trained_on[0]!r}; name speakers that it never heard.")
    started, cpu = time.time(), time.process_time()
    owners = owners_of(chosen, np.random.default_rng([seed, 0]))
    if len(owners) < 2:
        raise InputError(f"{corpus} has {len(owners)} speakers that {voices} never heard; name another corpus.")
    genuine = [model.hear(owner.genuine) for owner in owners]
    found: dict[str, list[list[float]]] = {}
    matched: list[float] = []
    with Voice() as voice:
        for number, owner in enumerate(owners):
            others = [other for other in owners if other is not owner]
            tried = list(attacks(owner, others, voice, np.random.default_rng([seed, 1, number])))
            kinds = np.array(
                [kind for kind, _ in tried] + ["genuine"] * len(genuine[number]) + ["impostor"] * len(others)
            )
            parts = [model.hear([wave]) for _, wave in tried] + genuine[number : number + 1]
            parts += [own.at([0]) for other, own in enumerate(genuine) if other != number]
            llr, cosines = _ratios(model, owner, together(parts))
            for kind in dict.fromkeys(kinds.tolist()):
                found.setdefault(kind, []).append(llr[kinds == kind].tolist())
            matched += [_octaves(pitches(wave), owner.pitch_hz) for kind, wave in tried if kind == "synthetic"]
            print(owner.name, {kind: np.round(np.mean(rows[-1]), 1).item() for kind, rows in found.items()}, flush=True)
            for kind in ("same clip", "replayed, near", "genuine"):
                found.setdefault(f"cosine {kind}", []).append(cosines[kinds == kind].tolist())
    return {
        "version": version("metavox"), "model": model.name, "model_hash": model.hash, "corpus": corpus, "seed": seed,
        "n_owners": len(owners), "owners": [owner.name for owner in owners], "enrolled_clips": N_ENROLLED,
        "chains": CHAINS, "thresholds": list(THRESHOLDS),
        "synthetic_off_by_octaves_median": float(np.median(matched)),
        "trials": {kind: judged(rows) for kind, rows in found.items() if not kind.startswith("cosine ")},
        "highest_cosine_with_an_enrolled_clip": {
            kind.removeprefix("cosine "): [float(np.min(np.concatenate(rows))), float(np.max(np.concatenate(rows)))]
            for kind, rows in found.items() if kind.startswith("cosine ")
        },
        "seconds": round(time.time() - started, 1), "cpu_s": round(time.process_time() - cpu, 1),
    }  # fmt: skip


def _ratios(model: VoiceModel, owner: Owner, tests: Heard) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Log-likelihood ratio of each clip, and its highest cosine with an enrolled one."""
    voice = model.hear(owner.enrolled)
    return model.llr([voice], tests)[:, 0], (tests.vectors @ voice.vectors.T).max(axis=1)


def judged(rows: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Shares that are accepted, of clips and of owners (any of their clips), with exact intervals.

    The interval of clips takes them for independent, which those against one owner are not; that of owners does not.
    """
    values = np.concatenate([np.asarray(row) for row in rows])
    accepted = {}
    for threshold in THRESHOLDS:
        clips = clopper_pearson(int((values >= threshold).sum()), len(values))
        owners = clopper_pearson(sum(max(row) >= threshold for row in rows), len(rows))
        accepted[f"{threshold:g}"] = {
            "share": clips.mean, "ci95": clips.ci95, "owners": owners.mean, "owners_ci95": owners.ci95
        }  # fmt: skip
    low, middle, high = np.quantile(values, [0.05, 0.5, 0.95]).tolist()
    return {"n": len(values), "accepted": accepted, "llr_quantiles_5_50_95": [low, middle, high]}


# -------------------------------------------------------------------------------------------------------------- telling


def told(found: dict[str, Any]) -> str:
    """What was found, in plain words, for docs/speakers.md."""

    def of(kind: str, threshold: str = "0", what: str = "share") -> str:
        one = found["trials"][kind]["accepted"][threshold]
        low, high = one["ci95" if what == "share" else "owners_ci95"]
        return f"{_percent(one[what])} % ({_percent(low)} to {_percent(high)})"

    def both(kind: str) -> str:
        return f"{of(kind)} and {of(kind, '4.6')}"

    return (
        f"This is not a lock: whoever has a recording of an enrolled voice passes as it. {found['n_owners']} people of "
        f"`{found['corpus']}`, whom the model never heard, enrolled {found['enrolled_clips']} clips each. Accepted at "
        "a log-likelihood ratio of 0, the default threshold, and at 4.6 (odds of 100 to 1), with exact 95 % intervals: "
        f"an enrolled recording itself, {both('same clip')}; the same played by a good loudspeaker near the "
        f"microphone, {both('replayed, near')}; by a telephone across a living room, {both('replayed, far')}; another "
        f"recording of the owner, played near, {both('replayed, near, other words')}, and far, "
        f"{both('replayed, far, other words')}; synthetic speech of espeak-ng at the owner's pitch and tempo, "
        f"{both('synthetic')}; other people's recordings moved to the owner's pitch, {both('pitched')}. For "
        f"comparison: the owners themselves, {both('genuine')}; other people as they are, {both('impostor')}. Who may "
        f"try {N_VARIANTS} synthetic voices in turn is accepted once or more for {of('synthetic', '0', 'owners')} of "
        f"the owners at 0, and for {of('synthetic', '4.6', 'owners')} at 4.6. Voices cloned from recordings of an "
        "owner were not tried; expect them to pass as recordings do. Vectors do not tell a played recording from a new "
        f"one: the highest cosine with an enrolled clip is {_range(found, 'replayed, near')} for the one and "
        f"{_range(found, 'genuine')} for the other."
    )


def _range(found: dict[str, Any], kind: str) -> str:
    low, high = found["highest_cosine_with_an_enrolled_clip"][kind]
    return f"{low:.2f} to {high:.2f}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}" if 0 < share < 0.01 else f"{100 * share:.0f}"


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("do", choices=["measure", "tell"])
    parser.add_argument("--voices", default="metavox/speaker-small", help="model of voices")
    parser.add_argument("--corpus", default="speechocean_en_l2")
    parser.add_argument("--speakers", type=Path, help="file with a name a line; without, all that were never heard")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=HERE / "spoofing.json")
    asked = parser.parse_args()
    if asked.do == "measure":
        found = measure(asked.voices, asked.corpus, asked.speakers, asked.seed)
        beside = asked.out.with_suffix(".tmp")
        beside.write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n")
        os.replace(beside, asked.out)
    print(told(json.loads(asked.out.read_text())))


if __name__ == "__main__":
    main()
