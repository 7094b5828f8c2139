"""From a trained recogniser to the one that ships: 16-bit weights, its guard, its card and its licence.

    metavox train recipes/transcription.yaml --out exp/asr
    python tools/bundle_recogniser.py exp/asr src/metavox/bundled/asr-small

Refuses recordings that may not train what is published, and a folder above 12 MB. The card is asr-small.md beside this
file with the figures of the training put in.
"""

import argparse
import shutil
from dataclasses import replace
from pathlib import Path

from metavox.transcription.models import load_recogniser, save_recogniser

HERE = Path(__file__).parent
MAY_SHIP = {
    "speechocean_en_l2", "librispeech_test_other_mini", "malayalam_msc", "mandarin_syllables", "arabic_digits",
    "fsdd_en_digits", "speech_commands_mini", "spoken_words_zh_en", "wake_words_en",
}  # fmt: skip
MOST_BYTES = 12_000_000


def main() -> None:
    """Parse, check, write beside and rename."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trained", type=Path)
    parser.add_argument("out", type=Path)
    asked = parser.parse_args()
    found = load_recogniser(asked.trained)
    strange = sorted(name for name in found.about["corpora"] if name not in MAY_SHIP and not name.startswith("synth-"))
    if strange:
        raise SystemExit(f"{asked.trained} was trained on {', '.join(strange)}, which may not train what is published.")
    about = dict(found.about)
    beside = asked.out.with_name(f".{asked.out.name}.new")
    shutil.rmtree(beside, ignore_errors=True)
    save_recogniser(beside, replace(found, about=about), half=True)
    for name in ("guard.safetensors", "guard.json"):
        shutil.copyfile(asked.trained / name, beside / name)
    shutil.copyfile(HERE / "asr-small.LICENSE", beside / "LICENSE")
    card = (HERE / "asr-small.md").read_text(encoding="utf-8")
    n_values = sum(value.numel() for value in found.net.parameters())
    card = card.replace("{values}", f"{n_values:,}").replace("{steps}", f"{about['steps']:,}")
    card = card.replace("{plain_steps}", str(about["steps"]))
    card = card.replace("{validation}", f"{about['validation_cer']:.0%}")
    n_bytes = sum(path.stat().st_size for path in beside.iterdir()) + len(card.encode())
    if n_bytes > MOST_BYTES:
        raise SystemExit(f"The bundle takes {n_bytes:,} bytes and {MOST_BYTES:,} are the most.")
    (beside / "README.md").write_text(card.replace("{megabytes}", f"{n_bytes / 1e6:.1f}"), encoding="utf-8")
    shutil.rmtree(asked.out, ignore_errors=True)
    for path in beside.iterdir():
        path.chmod(0o644)  # what is installed by one is read by all
    beside.rename(asked.out)
    print(f"{asked.out}: {n_bytes:,} bytes")


if __name__ == "__main__":
    main()
