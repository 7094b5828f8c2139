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
from torch.overrides import TorchFunctionMode
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
        self._foreign: set[int] = set()  # memory that is not the function's own
        for i, value in enumerate(inputs):
            self._know(value, self.graph.placeholder(f"input_{i}"), foreign=True)
        self._variable |= set(self.graph.nodes)

    def node(self, value: Tensor) -> fx.Node:
        """The node that made a tensor; a constant for one that came from elsewhere."""
        if id(value) not in self._nodes:
            name = f"constant_{len(self._alive)}"
            self.root.register_buffer(name, value)
            self._know(value, self.graph.get_attr(name), foreign=True)
        return self._nodes[id(value)]

    def varies(self, value: Tensor) -> bool:
        """Whether a tensor may be another one when the graph is replayed."""
        if torch._C._functorch.is_functorch_wrapped_tensor(value):
            return True
        return id(value) in self._nodes and self._nodes[id(value)] in self._variable

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        named = kwargs or {}

        def known(value: Any) -> Any:
            return self.node(value) if isinstance(value, Tensor) else value

        node = self.graph.call_function(func, tree_map(known, args), tree_map(known, named))
        if _draws(node) or any(parent in self._variable for parent in node.all_input_nodes):
            self._variable.add(node)
        if any(changed.meta["memory"] in self._foreign for changed in _changed(node)):
            raise CannotRecord(f"{func} changes in place what was given to it or belongs to others")
        if node in self._variable and _sizes_by_value(func, args):
            raise CannotRecord(f"{func} makes a size of numbers in a tensor, to decide by them")
        out = func(*args, **named)
        if isinstance(out, Tensor):
            if id(out) not in self._nodes:  # one that was changed in place is known already
                self._know(out, node)
        elif isinstance(out, list | tuple):
            for i, part in enumerate(out):
                if isinstance(part, Tensor):
                    self._know(part, self.graph.call_function(operator.getitem, (node, i)))
                    self._variable |= {self._nodes[id(part)]} if node in self._variable else set()
        elif out is not None and node in self._variable:
            raise CannotRecord(f"{func} takes a number from a tensor to decide by it")
        return out

    def _know(self, value: Tensor, node: fx.Node, foreign: bool = False) -> None:
        self._nodes[id(value)] = node
        self._alive.append(value)
        node.meta["memory"] = value.untyped_storage()._cdata
        if foreign:
            self._foreign.add(node.meta["memory"])


def _sizes_by_value(func: Any, args: tuple[Any, ...]) -> bool:
    """Whether the shape of a result depends on numbers: of masks as indices, and where an operation says so."""
    if func in (torch.ops.aten.index.Tensor, torch.ops.aten.index_put.default, torch.ops.aten._index_put_impl_.default):
        return any(isinstance(at, Tensor) and at.dtype in (torch.bool, torch.uint8) for at in args[1])
    return torch.Tag.dynamic_output_shape in func.tags and "_ctc_loss" not in str(func)  # its own way back reads that


_READS = (Tensor.tolist, Tensor.numpy, Tensor.__array__, Tensor.data_ptr)


class _Watch(TorchFunctionMode):
    """Forbids what reads a tensor without any native operation."""

    def __init__(self, tape: _Tape) -> None:
        super().__init__()
        self.tape = tape

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if func in _READS and self.tape.varies(args[0]):
            raise CannotRecord(f"Tensor.{func.__name__} takes numbers from a tensor to decide by them")
        return func(*args, **(kwargs or {}))


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
        with torch.no_grad(), _Tape(inputs) as tape, _Watch(tape):
            results = flat(*inputs)
        graph, root = tape.graph, tape.root
        self.draws = any(_draws(node) for node in graph.nodes)
        """Whether it draws random numbers, which are others at every replay."""
        graph.output([tape.node(result) for result in results])
        graph.eliminate_dead_code()
        share_equal_nodes(graph)
        if n_early is None:
            self._parts = [fx.GraphModule(root, graph)]
            return
        n_known = len(tree_flatten(tuple(args[:n_early]))[0])
        self._parts = list(split(graph, root, n_known, self._n_first))

    @property
    def constants(self) -> list[Tensor]:
        """Tensors from elsewhere that it reads."""
        return [value for part in self._parts for value in (*part.buffers(), *part.parameters())]

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
    """Keep one of equal operations on equal arguments, but for those that touch memory which is changed in place."""
    changed = {value.meta["memory"] for node in graph.nodes for value in _changed(node)}

    def touched(node: fx.Node) -> bool:
        own = (node, *node.all_input_nodes, *(user for user in node.users if user.target is operator.getitem))
        return _changes(node) or any(one.meta.get("memory") in changed for one in own)

    for node in list(graph.nodes):
        if node.target is torch.ops.aten.detach.default and not touched(node):  # nothing to be detached from
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
    seen: dict[Any, fx.Node] = {}
    for node in list(graph.nodes):
        if node.op != "call_function" or _draws(node) or touched(node):
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
    late = _late(graph, set(inputs[n_known:]))
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


def _late(graph: fx.Graph, late: set[fx.Node]) -> set[fx.Node]:
    """``late`` and what can only run after it: what reads its results, or memory that it changed, or changes memory
    that it read."""
    read: set[int] = set()
    changed: set[int] = set()
    for node in graph.nodes:
        if node.op != "call_function":
            continue
        parents = node.all_input_nodes
        memory = {parent.meta["memory"] for parent in parents if "memory" in parent.meta}
        changes = {parent.meta["memory"] for parent in _changed(node)}
        if any(parent in late for parent in parents) or memory & changed or changes & read:
            late.add(node)
            read |= memory
            changed |= changes
    return late


def _changed(node: fx.Node) -> list[fx.Node]:
    """Nodes whose tensors an operation changes in place."""
    if not _changes(node):
        return []
    found: list[fx.Node] = []
    schema = node.target._schema  # type: ignore[union-attr]
    for place, argument in enumerate(schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = node.args[place] if place < len(node.args) else node.kwargs.get(argument.name)
            found += [
                part for part in (value if isinstance(value, list | tuple) else [value]) if isinstance(part, fx.Node)
            ]
    return found


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
