"""Enrol two voices, ask who speaks, let a command obey its owner only, and forget a voice.

    python examples/own_voices.py                  # the model that comes with Metavox
    python examples/own_voices.py exp/voices       # a model that `metavox train recipes/voices.yaml` wrote

Here synthetic voices speak (espeak-ng, extra `demo`), so that the example runs anywhere; they are easier to tell apart
than a family is. Give your own recordings instead: ``enroll("anna", ["a1.wav", "a2.wav", "a3.wav"])``.
"""

import sys
import tempfile
from pathlib import Path

from metavox import CommandRecognizer, SpeakerVerifier, VoiceGate
from metavox.data.synth import speak

VOICES = {"anna": ("f2", 60), "ben": ("m3", 35), "guest": ("grandma", 40)}
SENTENCES = ["the train is late again this morning", "we had soup and bread for lunch", "where did I leave my keys"]
WORDS = ["open the door", "good night"]


def said(text: str, who: str, take: int = 0) -> tuple:
    """A text by one of three voices: samples with their rate."""
    variant, pitch = VOICES[who]
    return speak(text, "en", variant=variant, pitch=pitch + 2 * take, rate_wpm=150 + 6 * take), 16_000


def main() -> None:
    """Print who is heard, and who may."""
    family = SpeakerVerifier(sys.argv[1] if len(sys.argv) > 1 else "metavox/speaker-small")
    for name in ("anna", "ben"):
        family.enroll(name, [said(text, name, take) for take, text in enumerate(SENTENCES)])
    new = "could you bring me the newspaper please"
    for who in VOICES:
        print(f"{who} speaks: {family.identify(said(new, who)).name or 'nobody who is enrolled'}")
    claim = family.verify("anna", said(new, "guest"))
    print(f"the guest as anna: {'accepted' if claim.accepted else 'refused'}, log-likelihood ratio {claim.llr:.1f}")

    clips = [said(word, who, take) for word in WORDS for who in ("anna", "ben") for take in range(3)]
    house = CommandRecognizer().fit(clips, [word for word in WORDS for _ in range(6)])
    gate = VoiceGate(house, family, {"default": "anyone", "words": {"open the door": ["anna"]}})
    for who in VOICES:
        decision = gate.decide([said("open the door", who, 4)])[0]
        print(f"{who} says {decision.word}: {'done' if decision.allowed else decision.reason}")

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "family"
        family.save(place, key="six words that nobody ever guesses")
        family.forget("ben").save(place)
        print("left in the folder:", SpeakerVerifier.load(place, key="six words that nobody ever guesses").names_)


if __name__ == "__main__":
    main()
