"""What is asked of a model. A task knows how outputs are punished and scored, and not how learning happens."""

from jaxtyping import Float
from torch import Tensor

from .contracts import Batch, Output
from .losses import cross_entropy


class Commands:
    """Which of the enrolled words was said: one class an utterance."""

    def loss(self, output: Output, query: Batch) -> Float[Tensor, ""]:
        """Cross-entropy of the query."""
        return cross_entropy(output.scores, query.labels)

    def score(self, output: Output, query: Batch) -> Float[Tensor, " B"]:
        """1 where the best class is the right one."""
        return (output.scores.argmax(-1) == query.labels).to(output.scores.dtype)


TASKS = {"commands": Commands}
