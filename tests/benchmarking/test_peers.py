"""Every engine of the comparison computes the same meta-gradient as a second implementation, in float64."""

from functools import cache, partial
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional

from metavox.benchmarking import peers
from metavox.benchmarking.bare import build_bare
from metavox.benchmarking.cells import ALGORITHMS, INNER_LR, N_WAY, Batch, Cell, Tasks, Values, draw_tasks
from metavox.benchmarking.engines import OURS, engines_here, relative_difference
from metavox.benchmarking.nets import Classifier, build_net
from metavox.benchmarking.ours import OurStep
from metavox.benchmarking.peers import LEARN2LEARN_SRC, PEERS, Absent, why_absent
from metavox.errors import InputError

N_TASKS = 2
SETTINGS = [("tc_resnet8", 1, 1), ("tc_resnet8", 2, 2)]
CELLS = [Cell(*setting[:1], algorithm, *setting[1:], N_TASKS) for setting in SETTINGS for algorithm in ALGORITHMS]  # type: ignore[arg-type]
CELLS += [Cell("conv4", "maml", 1, 1, 1)]


def network(cell: Cell) -> Classifier:
    return build_net(cell.net, N_WAY, torch.Generator().manual_seed(1), torch.float64)


def few_tasks(cell: Cell, seed: int = 2) -> Tasks:
    """Tasks with 8 queries each, which is quick and no less exact."""
    drawn = draw_tasks(cell, cell.n_tasks, torch.Generator().manual_seed(seed), torch.float64)
    return [(support, (query[0][::10], query[1][::10])) for support, query in drawn]


@cache
def reference(cell: Cell, seed: int) -> Values:
    """By ``torch.func``: the mean over tasks of d query loss / d values, or of the way from adapted to first values."""
    net, tasks = network(cell), few_tasks(cell, seed)
    values = {name: value.detach() for name, value in net.named_parameters()}
    fixed = {name for name in values if cell.algorithm == "anil" and not name.startswith("head.")}

    def loss(at: Values, batch: Batch) -> Tensor:
        return functional.cross_entropy(functional_call(net, at, (batch[0],)), batch[1])

    def adapted(start: Values, support: Batch) -> Values:
        fast = start
        for _ in range(cell.n_steps):
            slope = torch.func.grad(loss)(fast, support)
            if cell.algorithm == "fomaml":
                slope = {name: value.detach() for name, value in slope.items()}
            fast = {
                name: value if name in fixed else value - INNER_LR * slope[name] for name, value in fast.items()
            }  # fmt: skip
        return fast

    total = {name: torch.zeros_like(value) for name, value in values.items()}
    for support, query in tasks:
        if cell.algorithm == "reptile":
            found = {name: values[name] - value for name, value in adapted(values, support).items()}
        else:

            def query_loss(start: Values, support: Batch = support, query: Batch = query) -> Tensor:
                return loss(adapted(start, support), query)

            found = torch.func.grad(query_loss)(values)
        total = {name: value + found[name] / len(tasks) for name, value in total.items()}
    return total


@pytest.mark.parametrize("name", [OURS, "bare", *PEERS])
def test_an_engine_computes_the_gradient_of_the_reference(name: str) -> None:
    if name in PEERS and (why := why_absent(name)):
        pytest.skip(f"{name} is absent: {why}")
    engine, compared = engines_here()[name], 0
    if name == OURS:  # what its calibration may choose is compared in its own tests
        engine = partial(OurStep, executor="captured", chunk=N_TASKS)
    for cell in CELLS[4:8] if name == OURS else CELLS:
        step = engine(cell, network(cell))
        if step is None:
            assert cell.algorithm not in PEERS[name].paths
            continue
        for seed in (2, 3):  # a step leaves nothing behind that the next one would see
            apart = relative_difference(step(few_tasks(cell, seed)), reference(cell, seed))
            assert apart < 1e-10, (cell.name, seed, apart)
        compared += 1
    assert compared >= 2


def test_algorithms_differ_so_that_agreement_means_something() -> None:
    cells = [Cell("tc_resnet8", algorithm, 1, 2, N_TASKS) for algorithm in ALGORITHMS]
    tasks = few_tasks(cells[0])
    found = [build_bare(cell, network(cell))(tasks) for cell in cells]
    for i in range(len(cells)):
        for j in range(i):
            assert relative_difference(found[i], found[j]) > 1e-3


def test_reptile_does_not_look_at_the_query() -> None:
    cell = Cell("tc_resnet8", "reptile", 1, 2, 1)
    ((support, query),) = few_tasks(cell)
    other = (torch.zeros_like(query[0]), query[1])
    for name, engine in engines_here().items():
        step = engine(cell, network(cell))
        if step is not None:
            found = {key: value.clone() for key, value in step([(support, query)]).items()}
            assert relative_difference(step([(support, other)]), found) == 0, name


def test_learn2learn_needs_its_source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(LEARN2LEARN_SRC, raising=False)
    with pytest.raises(Absent, match="learnables/learn2learn"):
        peers.learn2learn_source()
    assert why_absent("learn2learn") is not None
    monkeypatch.setenv(LEARN2LEARN_SRC, str(tmp_path))
    with pytest.raises(InputError, match="name a checkout of it"):
        peers.learn2learn_source()


def test_the_version_of_a_checkout_names_its_commit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    source, git = tmp_path / "learn2learn", tmp_path / ".git"
    (source / "algorithms").mkdir(parents=True)
    (source / "algorithms" / "maml.py").touch()
    (source / "_version.py").write_text("__version__ = '0.2.1'\n")
    monkeypatch.setenv(LEARN2LEARN_SRC, str(tmp_path))
    told = PEERS["learn2learn"].version
    assert told() == "0.2.1"
    git.mkdir()
    (git / "HEAD").write_text("ref: refs/heads/master\n")
    (git / "packed-refs").write_text("# pack-refs with: peeled\nabc1 refs/heads/other\nabc2 refs/heads/master\n")
    assert told() == "0.2.1 at abc2"
    (git / "refs" / "heads").mkdir(parents=True)
    (git / "refs" / "heads" / "master").write_text("abc3\n")
    assert told() == "0.2.1 at abc3"
    (git / "HEAD").write_text("abc4\n")
    assert told() == "0.2.1 at abc4"


def test_a_library_that_cannot_be_imported_says_how_to_get_it() -> None:
    absent = peers.Peer(peers._find_installed("no_such_library"), {}, lambda: "")
    with pytest.raises(Absent, match="pip install no_such_library"):
        absent.find()
