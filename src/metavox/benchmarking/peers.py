"""Other libraries' meta-gradients, each written as its own examples write it.

An engine is given a cell and a network and returns a step: a function from tasks to the mean meta-gradient by name of
parameter. What an outer optimizer does with it is the same for all and left out. A library that has no path of its own
for an algorithm is not given one.

- learn2learn: ``examples/vision/maml_omniglot.py`` (one graph at a time), ``anil_fc100.py`` (features of support and
  query in one pass) and ``reptile_miniimagenet.py``. A graph is freed task by task.
- torchopt: ``examples/few-shot/maml_omniglot.py`` (``MetaSGD``), but with one graph at a time, which takes less memory;
  and ``torchopt_vmap``, its ``examples/FuncTorch/maml_omniglot_vmap.py`` (all tasks at once through ``torch.func``).
- higher: ``examples/maml-omniglot.py``; first order with ``track_higher_grads=False``.
"""

import importlib
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional

from ..errors import InputError
from .cells import INNER_LR, Algorithm, Cell, Step, Tasks, Values
from .nets import Classifier

LEARN2LEARN_SRC = "LEARN2LEARN_SRC"


class Absent(Exception):
    """A library is not here; the message says how to get it."""


@dataclass(frozen=True)
class Peer:
    """A library, or one of the ways it offers."""

    find: Callable[[], Any]
    """Import it, or raise ``Absent``."""
    paths: Mapping[Algorithm, Callable[[Any, Cell, Classifier], Step]]
    """What it has, by algorithm."""
    version: Callable[[], str]


def build_peer(name: str, cell: Cell, net: Classifier) -> Step | None:
    """The step of a peer, or None where it has no such path.

    Raises:
        Absent: the library is not here.
    """
    peer = PEERS[name]
    path = peer.paths.get(cell.algorithm)
    return None if path is None else path(peer.find(), cell, net)


def peers_here() -> dict[str, str]:
    """Version by name of the peers that are here.

    Raises:
        InputError: ``LEARN2LEARN_SRC`` names a folder without its source.
    """
    return {name: peer.version() for name, peer in PEERS.items() if why_absent(name) is None}


def why_absent(name: str) -> str | None:
    """How to get a peer that is not here, or None where it is."""
    try:
        PEERS[name].find()
    except Absent as err:
        return str(err)
    return None


# -------------------------------------------------------------------------------------------------------- learn2learn


def learn2learn_source() -> Path:
    """The folder ``learn2learn`` of the checkout that ``LEARN2LEARN_SRC`` names.

    Raises:
        Absent: the variable is not set.
        InputError: there is no such source.
    """
    root = os.environ.get(LEARN2LEARN_SRC, "")
    if not root:
        raise Absent(f"set {LEARN2LEARN_SRC} to a checkout of https://github.com/learnables/learn2learn")
    source = Path(root) / "learn2learn"
    if not (source / "algorithms" / "maml.py").is_file():
        raise InputError(
            f"{LEARN2LEARN_SRC} is {root}, which holds no learn2learn/algorithms/maml.py; name a checkout of it."
        )
    return source


def _find_learn2learn() -> ModuleType:
    """Its MAML without the rest of the package, whose compiled parts do not build on current Pythons."""
    source = learn2learn_source()
    if "learn2learn" not in sys.modules:
        for name, folder in (("learn2learn", source), ("learn2learn.algorithms", source / "algorithms")):
            empty = ModuleType(name)
            empty.__path__ = [str(folder)]
            sys.modules[name] = empty
    return importlib.import_module("learn2learn.algorithms.maml")


def _learn2learn_version() -> str:
    source = learn2learn_source()
    told = (source / "_version.py").read_text().split("'")[1] if (source / "_version.py").is_file() else "unknown"
    commit = _commit(source.parent / ".git")
    return f"{told} at {commit}" if commit else told


def _commit(git: Path) -> str | None:
    """The commit of a checkout, where it can be read."""
    try:
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head
        name = head.removeprefix("ref: ")
        if (git / name).is_file():
            return (git / name).read_text().strip()
        packed = (line.partition(" ") for line in (git / "packed-refs").read_text().splitlines())
        return next((commit for commit, _, ref in packed if ref == name), None)
    except OSError:
        return None


def _learn2learn_maml(maml_module: Any, cell: Cell, net: Classifier) -> Step:
    maml = maml_module.MAML(net, lr=INNER_LR, first_order=cell.algorithm == "fomaml")

    def step(tasks: Tasks) -> Values:
        net.zero_grad()
        for (x, y), (query_x, query_y) in tasks:
            learner = maml.clone()
            for _ in range(cell.n_steps):
                learner.adapt(functional.cross_entropy(learner(x), y))
            functional.cross_entropy(learner(query_x), query_y).backward()
        return _mean_grads(net, len(tasks))

    return step


def _learn2learn_anil(maml_module: Any, cell: Cell, net: Classifier) -> Step:
    head = maml_module.MAML(net.head, lr=INNER_LR)

    def step(tasks: Tasks) -> Values:
        net.zero_grad()
        for (x, y), (query_x, query_y) in tasks:
            learner = head.clone()
            features = net.body(torch.cat([x, query_x]))
            support, query = features[: len(x)], features[len(x) :]
            for _ in range(cell.n_steps):
                learner.adapt(functional.cross_entropy(learner(support), y))
            functional.cross_entropy(learner(query), query_y).backward()
        return _mean_grads(net, len(tasks))

    return step


def _learn2learn_reptile(maml_module: Any, cell: Cell, net: Classifier) -> Step:
    maml = maml_module.MAML(net, lr=INNER_LR, first_order=True)

    def step(tasks: Tasks) -> Values:
        sums = {name: torch.zeros_like(value) for name, value in net.named_parameters()}
        for (x, y), _ in tasks:
            learner = maml.clone()
            for _ in range(cell.n_steps):
                learner.adapt(functional.cross_entropy(learner(x), y))
            for total, adapted in zip(sums.values(), learner.parameters(), strict=True):
                total.sub_(adapted.detach())
        return {name: sums[name].div_(len(tasks)).add_(value.detach()) for name, value in net.named_parameters()}

    return step


def _mean_grads(net: Classifier, n_tasks: int) -> Values:
    found = {}
    for name, value in net.named_parameters():
        assert value.grad is not None
        found[name] = value.grad.mul_(1 / n_tasks)
    return found


# ----------------------------------------------------------------------------------------------------------- torchopt


def _find_installed(name: str) -> Callable[[], ModuleType]:
    def find() -> ModuleType:
        try:
            return importlib.import_module(name)
        except ImportError as err:
            raise Absent(f"pip install {name}") from err

    return find


def _installed_version(name: str) -> Callable[[], str]:
    def told() -> str:
        try:
            return version(name)
        except PackageNotFoundError:  # put on the path by hand
            return "unknown"

    return told


def _torchopt_maml(torchopt: Any, cell: Cell, net: Classifier) -> Step:
    inner = torchopt.MetaSGD(net, lr=INNER_LR)

    def step(tasks: Tasks) -> Values:
        net.zero_grad()
        first = torchopt.extract_state_dict(net, by="reference", detach_buffers=True)
        inner_first = torchopt.extract_state_dict(inner, by="reference")
        for (x, y), (query_x, query_y) in tasks:
            for _ in range(cell.n_steps):
                inner.step(functional.cross_entropy(net(x), y))
            functional.cross_entropy(net(query_x), query_y).backward()
            torchopt.recover_state_dict(net, first)
            torchopt.recover_state_dict(inner, inner_first)
        return _mean_grads(net, len(tasks))

    return step


def _torchopt_vmap_maml(torchopt: Any, cell: Cell, net: Classifier) -> Step:
    values: Values = dict(net.named_parameters())
    inner = torchopt.sgd(lr=INNER_LR)

    def loss(fast: Values, x: Tensor, y: Tensor) -> Tensor:
        return functional.cross_entropy(functional_call(net, fast, (x,)), y)

    def query_loss(x: Tensor, y: Tensor, query_x: Tensor, query_y: Tensor) -> Tensor:
        fast, state = values, inner.init(values)
        for _ in range(cell.n_steps):
            updates, state = inner.update(torch.func.grad(loss)(fast, x, y), state, inplace=False)
            fast = torchopt.apply_updates(fast, updates, inplace=False)
        return loss(fast, query_x, query_y)

    def step(tasks: Tasks) -> Values:
        net.zero_grad()
        sides = [torch.stack([task[side][part] for task in tasks]) for side in (0, 1) for part in (0, 1)]
        torch.func.vmap(query_loss)(*sides).sum().backward()
        return _mean_grads(net, len(tasks))

    return step


# ------------------------------------------------------------------------------------------------------------- higher


def _higher_maml(higher: Any, cell: Cell, net: Classifier) -> Step:
    inner = torch.optim.SGD(net.parameters(), lr=INNER_LR)

    def step(tasks: Tasks) -> Values:
        net.zero_grad()
        for (x, y), (query_x, query_y) in tasks:
            with higher.innerloop_ctx(net, inner, copy_initial_weights=False) as (fast, diff):
                for _ in range(cell.n_steps):
                    diff.step(functional.cross_entropy(fast(x), y))
                functional.cross_entropy(fast(query_x), query_y).backward()
        return _mean_grads(net, len(tasks))

    return step


def _higher_first_order(higher: Any, cell: Cell, net: Classifier) -> Step:
    inner = torch.optim.SGD(net.parameters(), lr=INNER_LR)

    def step(tasks: Tasks) -> Values:
        sums = {name: torch.zeros_like(value) for name, value in net.named_parameters()}
        for (x, y), (query_x, query_y) in tasks:
            with higher.innerloop_ctx(net, inner, track_higher_grads=False) as (fast, diff):
                for _ in range(cell.n_steps):
                    diff.step(functional.cross_entropy(fast(x), y))
                last = tuple(fast.parameters())
                if cell.algorithm == "reptile":
                    found = tuple((a - b).detach() for a, b in zip(net.parameters(), last, strict=True))
                else:
                    found = torch.autograd.grad(functional.cross_entropy(fast(query_x), query_y), last)
            for total, grad in zip(sums.values(), found, strict=True):
                total.add_(grad, alpha=1 / len(tasks))
        return sums

    return step


PEERS: dict[str, Peer] = {
    "learn2learn": Peer(
        _find_learn2learn,
        {
            "maml": _learn2learn_maml,
            "fomaml": _learn2learn_maml,
            "reptile": _learn2learn_reptile,
            "anil": _learn2learn_anil,
        },
        _learn2learn_version,
    ),
    "torchopt": Peer(_find_installed("torchopt"), {"maml": _torchopt_maml}, _installed_version("torchopt")),
    "torchopt_vmap": Peer(_find_installed("torchopt"), {"maml": _torchopt_vmap_maml}, _installed_version("torchopt")),
    "higher": Peer(
        _find_installed("higher"),
        {"maml": _higher_maml, "fomaml": _higher_first_order, "reptile": _higher_first_order},
        _installed_version("higher"),
    ),
}
REQUIRED = ("learn2learn", "torchopt")
"""Without these a full run is no comparison."""
