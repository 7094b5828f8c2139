"""From a trained encoder to a model of voices: cohort, calibration, and what it was made of."""

from pathlib import Path
from typing import Any

import numpy as np

from ..audio import read
from ..config.voices import VoicesExperiment
from ..nets.voice import VoiceNet
from .discriminants import learned_statistics
from .encoders import encoder_of, save_voices
from .furnishing import furnish
from .material import RATE_HZ, Material, Report
from .models import VoiceModel
from .scoring import unit

SECOND_DIMS = 40
"""Directions of the statistics that stand beside the network, at most."""
COHORT_S = 0.5
"""Of each voice of training, the speech that its place in the cohort rests on: as short as a word, whose vectors differ
from those of sentences; chosen on people and a language left out (decision 0013)."""


def keep(
    out: Path, net: VoiceNet, experiment: VoicesExperiment, material: Material, report: Report | None = None
) -> VoiceModel:
    """Write the model into ``out``.

    The cohort are the voices of training, each at its own speed. The calibration comes from the development speakers,
    whom the network never heard; without any there is none.

    Raises:
        InputError: fewer development speakers than a calibration needs.
    """
    clips = [[clip.astype(np.float32) / 32768 for clip in person.clips] for person in material.people]
    second = learned_statistics(clips, SECOND_DIMS, experiment.train.seed)
    encoder = encoder_of(net, out.name, second)
    rng = np.random.default_rng([experiment.train.seed, 5])
    own = [person for person in material.people if person.speed == 1.0] or list(material.people)
    stretches = [person.stretch(round(COHORT_S * RATE_HZ), rng) for person in own]
    cohort = unit(encoder.embed(stretches))
    about: dict[str, Any] = {
        "corpora": list(material.corpora),
        "speakers": list(material.speakers),
        "left_out": [*experiment.data.leave_out_corpora, *experiment.data.leave_out_speakers],
        "voices": len(material.people),
        "hours": round(sum(person.speech_s for person in own) / 3600, 2),
        "seed": experiment.train.seed,
        "development": sorted(material.development),
    }
    if not material.development:
        return save_voices(out, net, cohort, None, about, second)
    waves = [[read(one.path, RATE_HZ) for one in clips] for clips in material.development.values()]
    corpora = [clips[0].corpus for clips in material.development.values()]
    found = furnish(encoder, waves, experiment.train.seed, corpus_of=corpora, cohort=cohort, report=report)
    return save_voices(out, net, cohort, found.ratios, {**about, "calibration": found.about}, second, found.turns)
