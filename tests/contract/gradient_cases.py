"""Learners that adapt by gradient, as the contract suite builds them."""

from metavox.config import LearnerConfig

CASES = {
    "maml": LearnerConfig(name="maml", inner_steps=3),
    "maml-patterns": LearnerConfig(
        name="maml", inner_steps=3, adapts=("encoder.body.blocks.2.*", "head.*"), multi_step=True
    ),
    "reptile": LearnerConfig(name="reptile", inner_steps=3),
    "imaml": LearnerConfig(name="imaml", inner_steps=3, cg_iterations=2),
    "fomaml": LearnerConfig(name="fomaml", inner_steps=3),
    "fomaml-head": LearnerConfig(name="fomaml", inner_steps=3, adapts="head"),
}
"""Names of cases -> what is built on a small encoder."""
