"""One learner after the other, small, and as if some steps into its training; ``by_gradient`` as it begins."""

from typing import Any

import pytest
from learner_cases import CASES, ENROLLABLE, FIXED, GRADIENT
from weights import started

from metavox.checkpoint import build


@pytest.fixture(params=CASES)
def learner(request: pytest.FixtureRequest) -> Any:
    return started(build(CASES[request.param], seed=3))


@pytest.fixture(params=[name for name in CASES if name not in FIXED])
def of_any_ways(request: pytest.FixtureRequest) -> Any:
    return started(build(CASES[request.param], seed=3))


@pytest.fixture(params=ENROLLABLE)
def enrollable(request: pytest.FixtureRequest) -> Any:
    return started(build(CASES[request.param], seed=3))


@pytest.fixture(params=GRADIENT)
def by_gradient(request: pytest.FixtureRequest) -> Any:
    return build(CASES[request.param], seed=3)
