"""What is held of a voice, for whoever asks to see it."""

import base64
import io
from typing import Any

import numpy as np
import soundfile
from jaxtyping import Float

from ..profiles.voiceprints import Voiceprint


def as_recording(wave: Float[np.ndarray, " S"], rate_hz: int) -> bytes:
    """Samples in [-1, 1] as 16-bit FLAC."""
    file = io.BytesIO()
    soundfile.write(file, wave, rate_hz, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def described(name: str, one: Voiceprint) -> dict[str, Any]:
    """Everything that is held of a voice, as JSON holds it; a recording as FLAC in base 64."""
    clips = [
        {
            "enrolled": date,
            "speech_s": float(speech_s),
            "snr_db": float(snr_db),
            "vector": [float(value) for value in vector],
            **({} if audio is None else {"audio_flac_base64": base64.b64encode(audio).decode("ascii")}),
        }
        for date, speech_s, snr_db, vector, audio in zip(
            one.enrolled, one.speech_s, one.snr_db, one.vectors, one.audio, strict=True
        )
    ]
    return {"name": name, "n_clips": len(one), "speech_s": float(one.speech_s.sum()), "clips": clips}
