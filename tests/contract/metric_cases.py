"""Learners that compare, and conditioned ones, as the contract suite builds them."""

from metavox.config import LearnerConfig

CASES = {
    "prototypes-soft": LearnerConfig(name="prototypes", match="soft"),
    "prototypes-dtw": LearnerConfig(name="prototypes", match="dtw"),
    "prototypes-pooled": LearnerConfig(name="prototypes", match="pooled"),
    "classified_prototypes": LearnerConfig(name="classified_prototypes", n_base_classes=5),
    "voiced_prototypes": LearnerConfig(name="voiced_prototypes", n_voices=4, voice_dim=8),
    "protonet": LearnerConfig(name="protonet"),
    "matching": LearnerConfig(name="matching"),
    "relation": LearnerConfig(name="relation", width=8),
    "gaussian": LearnerConfig(name="gaussian"),
    "open_prototypes": LearnerConfig(name="open_prototypes", width=8),
    "crosstransformer": LearnerConfig(name="crosstransformer"),
    "support_conditioned": LearnerConfig(name="support_conditioned", width=8),
    "cnp": LearnerConfig(name="cnp", width=8),
    "film": LearnerConfig(name="film", width=8),
    "set_attention": LearnerConfig(name="set_attention", width=8),
}
"""Names of cases -> what is built on a small encoder. All but ``film`` can be enrolled word by word."""
