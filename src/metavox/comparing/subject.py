"""What a comparison has to know of what is learned: its plan, who runs a cell, what is measured, and how it is told."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from .cells import Report, Run
from .recorded import Cell
from .table import Measure


@runtime_checkable
class Named(Protocol):
    """A fold of a plan."""

    @property
    def name(self) -> str: ...


@runtime_checkable
class Planned(Protocol):
    """What plans of all subjects have."""

    @property
    def recipe(self) -> Any: ...
    @property
    def learners(self) -> Sequence[str]: ...
    @property
    def folds(self) -> Sequence[Named]: ...
    @property
    def shares(self) -> Mapping[str, str]: ...


@dataclass(frozen=True)
class Subject:
    """What learners of one kind are compared by. The functions take the plan that ``plan`` made."""

    recipe: type
    """Its kind of recipe."""
    plan: Callable[[Any], Planned]
    run: Run
    """Does one cell."""
    prepare: Callable[[Any, Report | None], None]
    """Computes what all cells read, so that no two compute the same at once."""
    costs: Callable[..., Mapping[str, Any]]
    """(folder, plan, results of finished cells, jobs, anew, report) -> what adapting and answering take, by learner;
    with ``stopped``, why it could not be measured."""
    measure: Measure
    told: Callable[[Any, Sequence[Mapping[str, Any]]], dict[str, Any]]
    """(plan, results of finished cells) -> ``what``, ``folds``, ``search``, ``spaces``, ``measured`` and ``notes``."""
    summary_keys: tuple[str, ...]
    """Keys of a row of the standings that a flat summary has."""
    given_key: str
    """What the amount that was given is called there."""
    require_fitting: Callable[[Any, Sequence[Mapping[str, Any]]], None] = lambda plan, results: None
    """Raises InputError where finished cells do not belong to the plan: (plan, their results)."""


def cells_of(plan: Planned) -> list[Cell]:
    """Every learner in every fold."""
    return [Cell(fold.name, name, plan.shares.get(name, "")) for fold in plan.folds for name in plan.learners]
