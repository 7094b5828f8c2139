"""A computation recorded once as a flat graph of native operations, and replayed without Python's detours.

Recording runs the function and writes down the native operations that ``vmap`` and ``grad`` come to, each of which
is kept once (the way back asks for much of the way forward again). Replaying costs no autograd, frees what is no longer
needed at once, and gives the same numbers. What a function decides in Python is decided while recording; a decision
that rests on a number of the arguments cannot be recorded.
"""

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import TreeSpec, tree_flatten, tree_map, tree_unflatten


class CannotRecord(RuntimeError):
    """The function did what no replay could do again."""


class _Tape(TorchDispatchMode):
    """Writes native operations into a graph as they run."""

    def __init__(self, inputs: Sequence[Tensor]) -> None:
        super().__init__()
        self.graph, self.root = fx.Graph(), nn.Module()
        self._nodes: dict[int, fx.Node] = {}
        self._alive: list[Tensor] = []  # an address must not be given to another tensor
        self._variable: set[fx.Node] = set()
        for i, value in enumerate(inputs):
            self._know(value, self.graph.placeholder(f"input_{i}"))
        self._variable |= set(self.graph.nodes)

    def node(self, value: Tensor) -> fx.Node:
        """The node that made a tensor; a constant for one that came from elsewhere."""
        if id(value) not in self._nodes:
            name = f"constant_{len(self._alive)}"
            self.root.register_buffer(name, value)
            self._know(value, self.graph.get_attr(name))
        return self._nodes[id(value)]

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        named = kwargs or {}

        def known(value: Any) -> Any:
            return self.node(value) if isinstance(value, Tensor) else value

        node = self.graph.call_function(func, tree_map(known, args), tree_map(known, named))
        if any(parent in self._variable for parent in node.all_input_nodes):
            self._variable.add(node)
        out = func(*args, **named)
        if isinstance(out, Tensor):
            if id(out) not in self._nodes:  # one that was changed in place is known already
                self._know(out, node)
        elif isinstance(out, list | tuple):
            for i, part in enumerate(out):
                if isinstance(part, Tensor):
                    self._know(part, self.graph.call_function(operator.getitem, (node, i)))
                    self._variable |= {self._nodes[id(part)]} if node in self._variable else set()
        elif node in self._variable:
            raise CannotRecord(f"{func} takes a number from a tensor to decide by it")
        return out

    def _know(self, value: Tensor, node: fx.Node) -> None:
        self._nodes[id(value)] = node
        self._alive.append(value)


class Recorded:
    """A recorded function of trees of tensors, in one part or in two.

    In two parts, the first needs no argument from ``n_early`` on; ``first`` gives its results, and ``second`` the rest
    once those arguments are known. The function must return ``(early, late)`` then.
    """

    def __init__(self, function: Callable[..., Any], args: Sequence[Any], n_early: int | None = None) -> None:
        leaves, self._spec = tree_flatten(tuple(args))
        self._out: list[TreeSpec] = []

        def flat(*values: Tensor) -> list[Tensor]:
            found = function(*tree_unflatten(list(values), self._spec))
            parts = found if n_early is not None else (found,)
            flattened = [tree_flatten(part) for part in parts]
            self._out = [spec for _, spec in flattened]
            self._n_first = len(flattened[0][0])
            return [leaf for part, _ in flattened for leaf in part]

        inputs = [leaf.detach() for leaf in leaves]  # of our own, and each another
        with torch.no_grad(), _Tape(inputs) as tape:
            results = flat(*inputs)
        graph, root = tape.graph, tape.root
        graph.output([tape.node(result) for result in results])
        graph.eliminate_dead_code()
        share_equal_nodes(graph)
        if n_early is None:
            self._parts = [fx.GraphModule(root, graph)]
            return
        n_known = len(tree_flatten(tuple(args[:n_early]))[0])
        self._parts = list(split(graph, root, n_known, self._n_first))

    def __call__(self, *args: Any) -> Any:
        """The result, of a function in one part."""
        with torch.no_grad():
            return tree_unflatten(self._parts[0](*tree_flatten(args)[0]), self._out[0])

    def first(self, *args: Any) -> tuple[Any, list[Any]]:
        """Results that need the early arguments only, and what the second part needs of them."""
        with torch.no_grad():
            found = self._parts[0](*tree_flatten(args)[0])
        return tree_unflatten(found[: self._n_first], self._out[0]), list(found[self._n_first :])

    def second(self, kept: list[Any], *late: Any) -> Any:
        """The other results."""
        with torch.no_grad():
            return tree_unflatten(self._parts[1](*kept, *tree_flatten(late)[0]), self._out[1])


def share_equal_nodes(graph: fx.Graph) -> None:
    """Keep one of equal operations on equal arguments; a graph that changes its tensors in place stays as it is."""
    if any(_changes(node) for node in graph.nodes):
        return
    seen: dict[Any, fx.Node] = {}
    for node in list(graph.nodes):
        if node.op != "call_function" or _draws(node):
            continue
        key = (node.target, _frozen(node.args), _frozen(node.kwargs))
        try:
            twin = seen.setdefault(key, node)
        except TypeError:  # an argument that cannot be a key
            continue
        if twin is not node:
            node.replace_all_uses_with(twin)
            graph.erase_node(node)


def split(graph: fx.Graph, root: Any, n_known: int, n_first: int) -> tuple[fx.GraphModule, fx.GraphModule]:
    """Cut a graph in what the first ``n_known`` inputs decide, ``n_first`` outputs among it, and the rest."""
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    late = set(inputs[n_known:])
    for node in graph.nodes:
        if node.op == "call_function" and any(parent in late for parent in node.all_input_nodes):
            late.add(node)
    (output,) = (node for node in graph.nodes if node.op == "output")
    results = list(output.args[0])
    wanted = results[n_first:]
    needed = [*(node for node in late if node.op != "placeholder"), *(n for n in wanted if isinstance(n, fx.Node))]
    kept: dict[fx.Node, None] = {}
    for node in needed:
        for parent in (*node.all_input_nodes, node):
            if parent not in late and parent.op != "get_attr":
                kept.setdefault(parent)
    # A tuple cannot be kept as it is: its parts are.
    borders = [node for node in kept if not _is_tuple(node)]
    borders += [user for node in kept if _is_tuple(node) for user in node.users if user not in kept]
    early_graph, late_graph = fx.Graph(), fx.Graph()
    early_map: dict[fx.Node, fx.Node] = {}
    late_map: dict[fx.Node, fx.Node] = {node: late_graph.placeholder(f"kept_{i}") for i, node in enumerate(borders)}
    for node in graph.nodes:
        if node.op == "output" or (node.op == "placeholder" and node not in late):
            if node.op == "placeholder":
                early_map[node] = early_graph.node_copy(node)
            continue
        if node in late:
            late_map[node] = late_graph.node_copy(node, late_map.__getitem__)
        else:
            early_map[node] = early_graph.node_copy(node, early_map.__getitem__)
            if node.op == "get_attr":
                late_map[node] = late_graph.node_copy(node)
    early_graph.output([*(_mapped(node, early_map) for node in results[:n_first]), *(early_map[n] for n in borders)])
    late_graph.output([_mapped(node, late_map) for node in wanted])
    for one in (early_graph, late_graph):
        one.eliminate_dead_code()
    return fx.GraphModule(root, early_graph), fx.GraphModule(root, late_graph)


def _mapped(node: Any, known: dict[fx.Node, fx.Node]) -> Any:
    return known[node] if isinstance(node, fx.Node) else node


def _is_tuple(node: fx.Node) -> bool:
    return any(user.target is operator.getitem for user in node.users)


def _changes(node: fx.Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


def _draws(node: fx.Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and torch.Tag.nondeterministic_seeded in node.target.tags


def _frozen(value: Any) -> Any:
    """A key: equal arguments have equal ones, and 1, 1.0 and True do not."""
    if isinstance(value, list | tuple):
        return (type(value), *(_frozen(part) for part in value))
    if isinstance(value, dict):
        return tuple((name, _frozen(part)) for name, part in sorted(value.items()))
    return value if isinstance(value, fx.Node) else (type(value), value)
