"""A learner of one's own: a class with two verbs and a row of the shelf, and the suite holds it."""

import inspect
from typing import Any

import pytest
import test_learner_contract as contract
import torch
from learner_cases import small
from torch import nn

from metavox.checkpoint import build
from metavox.contracts import Batch, Encoder, Output, State
from metavox.learners.classifier import clip_vectors
from metavox.learners.outer import query_loss
from metavox.learners.preset import Preset
from metavox.learners.presets import LEARNERS


class Medoids(nn.Module):
    """A query belongs where the take lies that is the least far from the others of its class."""

    fixed_ways = False
    adapts_body = False

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def adapt(self, support: Batch) -> State:
        vectors = clip_vectors(self.encoder, support)
        apart = torch.cdist(vectors, vectors, compute_mode="donot_use_mm_for_euclid_dist")
        chosen = []
        for label in range(support.n_classes):
            rows = (support.labels == label).nonzero()[:, 0]
            chosen.append(vectors[rows[apart[rows][:, rows].sum(1).argmin()]])
        return {"medoids": torch.stack(chosen)}

    def predict(self, state: State, query: Batch) -> Output:
        return Output(-(clip_vectors(self.encoder, query)[:, None] - state["medoids"]).square().sum(-1))


PROMISES = {
    name: check
    for name, check in inspect.getmembers(contract, inspect.isfunction)
    if name.startswith("test_") and set(inspect.signature(check).parameters) in ({"learner"}, {"of_any_ways"})
}


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setitem(LEARNERS, "medoids", Preset(lambda encoder, config: Medoids(encoder), query_loss))
    return build(small("medoids"), seed=3)


@pytest.mark.parametrize("promise", PROMISES)
def test_a_learner_of_ones_own_is_held_to_the_contract(own: Any, promise: str) -> None:
    PROMISES[promise](own)


def test_what_breaks_the_contract_is_found(own: Any) -> None:
    """A learner that asks how many are asked with it."""
    honest = own.predict
    own.predict = lambda state, query: Output(honest(state, query).scores + len(query))
    with pytest.raises(AssertionError):
        PROMISES["test_who_else_is_asked_does_not_matter"](own)
