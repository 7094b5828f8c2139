"""The house keeps its order: every rule of the design that a machine can check, and proof that each can fail."""

import ast
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "metavox"
TESTS = Path(__file__).parent

FLOORS = [
    ["errors", "contracts", "config"],
    ["audio", "features", "augment", "text"],
    ["metrics", "distributions", "statistics", "losses", "engine", "distributed"],
    ["data", "nets", "tasks", "learners", "averaging", "calibration"],
    ["checkpoint", "profiles", "interruption", "training_log", "transcription", "voices", "runtime", "evaluation"],
    ["provenance", "background", "training_state", "merging", "training"],
    ["benchmarking", "comparing", "demo", "estimators", "serve", "cli"],
]
ROOMS = [room for floor in FLOORS for room in floor]
"""A room imports from those that stand before it. Inside a package the order is free, without a circle."""

APART = {("training", "evaluation")}
"""(a, b): a must not import b although b stands before it. What is trained is judged by others."""

HOLDALLS = {"utils", "util", "helpers", "helper", "common", "misc", "base", "manager", "core", "tools"}
MAX_FILE_LINES, MAX_FUNCTION_LINES = 400, 60

HEAVY = {
    *("lhotse", "scipy", "sklearn", "pandas", "matplotlib", "jinja2", "babel", "tensorboard", "optuna"),
    *("transformers", "peft", "datasets", "onnx", "onnxruntime", "keras", "ray"),
    *("fastapi", "starlette", "uvicorn", "cryptography"),
}
"""What a product does not carry."""

GLOBAL_DRAWS = {
    *("rand", "rand_like", "randn", "randn_like", "randint", "randint_like", "randperm"),
    *("normal", "bernoulli", "multinomial", "poisson", "dropout"),
}
"""Functions of torch that draw from the global generator unless one is given."""
IN_PLACE_DRAWS = {f"{name}_" for name in ("normal", "uniform", "bernoulli", "random", "exponential", "cauchy")}
NUMPY_GENERATORS = {"default_rng", "Generator", "SeedSequence", "PCG64", "Philox", "BitGenerator"}

SEEDED = {"checkpoint.seeded"}
"""The only function that may seed torch: its initialisers know no other generator, and it restores the state."""

Module = tuple[str, ast.Module]
"""Name below the package ("nets.heads", "nets" for its __init__, "" for the root), and its syntax tree."""


def module_name(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = sorted(SOURCE.rglob("*.py"))
MODULES: list[Module] = [(module_name(path), ast.parse(path.read_text(encoding="utf-8"))) for path in FILES]
PACKAGES = {module_name(path) for path in FILES if path.name == "__init__.py"}


# ------------------------------------------------------------------------------------------------ what imports what


def imports(name: str, tree: ast.Module, known: set[str]) -> Iterator[tuple[int, str]]:
    """Line and name below the package of everything of ours that a module imports, at the top or inside a function."""
    package = name.split(".") if name in PACKAGES else name.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "metavox":
                    yield node.lineno, alias.name.partition(".")[2]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                above = [part for part in package if part]
                source = above[: len(above) - node.level + 1] + (node.module or "").split(".")
            elif (node.module or "").split(".")[0] == "metavox":
                source = (node.module or "").split(".")[1:]
            else:
                continue
            target = ".".join(part for part in source if part)
            for alias in node.names:
                inner = f"{target}.{alias.name}".lstrip(".")
                yield node.lineno, inner if target and inner in known else target


def room(name: str) -> str:
    return name.split(".", maxsplit=1)[0]


def wrong_order(modules: list[Module]) -> list[str]:
    """Imports from a room that comes later, or from one that is held apart; rooms that are not in the list."""
    known = {name for name, _ in modules}
    found = [f"{name}: the room {room(name)} is not in the list" for name in known if name and room(name) not in ROOMS]
    for name, tree in modules:
        if not name or room(name) not in ROOMS:
            continue
        here = ROOMS.index(room(name))
        for line, target in imports(name, tree, known):
            there = room(target)
            if not there or there == room(name):
                continue
            if there not in ROOMS or ROOMS.index(there) > here or (room(name), there) in APART:
                found.append(f"{name}:{line} imports {target}")
    return sorted(found)


def circles(modules: list[Module]) -> list[str]:
    """Modules of one package that import each other in a circle."""
    known = {name for name, _ in modules}
    graph = {
        name: {target for _, target in imports(name, tree, known) if room(target) == room(name) and target != name}
        for name, tree in modules
        if name
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as err:
        return [" -> ".join(err.args[1])]
    return []


def imports_from_root(modules: list[Module]) -> list[str]:
    """Imports from ``metavox`` itself: they would load the root's names before they exist."""
    known = {name for name, _ in modules}
    return [f"{name}:{line}" for name, tree in modules for line, target in imports(name, tree, known) if not target]


def opens_the_border(modules: list[Module]) -> list[str]:
    """Imports of lhotse outside ``data.interchange``, or of that package outside the command line."""
    known = {name for name, _ in modules}
    found = []
    for name, tree in modules:
        if name.startswith("data.interchange"):
            continue
        if room(name) != "cli":
            inside = [(line, target) for line, target in imports(name, tree, known) if "interchange" in target]
            found += [f"{name}:{line} imports {target}" for line, target in inside]
        for node in ast.walk(tree):
            named = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                named = [node.module or ""]
            found += [f"{name}:{node.lineno} imports lhotse" for module in named if module.split(".")[0] == "lhotse"]
    return found


# ---------------------------------------------------------------------------------------------------- size and names


def holdalls(modules: list[Module]) -> list[str]:
    """Modules whose name says nothing about what they hold."""
    return [name for name, _ in modules if HOLDALLS & set(name.split("."))]


def too_long(sources: dict[str, str]) -> list[str]:
    """Files and functions over the budget."""
    found = []
    for name, text in sources.items():
        n_lines = len(text.splitlines())
        if n_lines > MAX_FILE_LINES:
            found.append(f"{name}: {n_lines} lines, at most {MAX_FILE_LINES}")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                n_lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if n_lines > MAX_FUNCTION_LINES:
                    found.append(f"{name}:{node.lineno} {node.name}: {n_lines} lines, at most {MAX_FUNCTION_LINES}")
    return found


def undocumented(modules: list[Module]) -> list[str]:
    """Public modules, classes and functions without a docstring; methods are documented where they are promised."""
    found = [f"{name or 'metavox'}: module" for name, tree in modules if not ast.get_docstring(tree)]
    for name, tree in modules:
        for node in tree.body:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or node.name.startswith("_"):
                continue
            overloaded = any(ast.unparse(mark).split(".")[-1] == "overload" for mark in node.decorator_list)
            if not overloaded and not ast.get_docstring(node):
                found.append(f"{name}:{node.lineno} {node.name}")
    return found


# ----------------------------------------------------------------------------------------------- what is never called


def calls(tree: ast.AST) -> Iterator[tuple[ast.Call, str]]:
    """Every call with the dotted name that it is written with."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            yield node, ast.unparse(node.func)


def talks(modules: list[Module]) -> list[str]:
    """Printing and reading of the command line outside ``cli``."""
    found = []
    for name, tree in modules:
        if room(name) == "cli":
            continue
        found += [f"{name}:{call.lineno} {what}" for call, what in calls(tree) if what in ("print", "input")]
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and ast.unparse(node) in ("sys.argv", "sys.stdout"):
                found.append(f"{name}:{node.lineno} {ast.unparse(node)}")
    return found


def pickles(modules: list[Module]) -> list[str]:
    """Anything that reads or writes pickle, and so runs the code of whoever wrote the file."""
    found = []
    for name, tree in modules:
        for node in ast.walk(tree):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
            found += [
                f"{name}:{node.lineno} {module}"
                for module in names
                if module.split(".")[0] in ("pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal")
                or module in ("torch.load", "torch.save")
            ]
        for call, what in calls(tree):
            allowed = [word for word in call.keywords if word.arg == "allow_pickle"]
            if what in ("torch.load", "torch.save", "joblib.load", "joblib.dump"):
                found.append(f"{name}:{call.lineno} {what}")
            if any(not (isinstance(word.value, ast.Constant) and word.value.value is False) for word in allowed):
                found.append(f"{name}:{call.lineno} allow_pickle")
            if what in ("np.load", "numpy.load") and not allowed:
                found.append(f"{name}:{call.lineno} np.load without allow_pickle=False")
    return found


def draws_globally(modules: list[Module]) -> list[str]:
    """Randomness that is nobody's argument."""
    found = []
    for name, tree in modules:
        for node in ast.walk(tree):
            if isinstance(node, ast.Import) and any(alias.name == "random" for alias in node.names):
                found.append(f"{name}:{node.lineno} import random")
            if isinstance(node, ast.ImportFrom) and not node.level and node.module in ("random", "numpy.random"):
                found.append(f"{name}:{node.lineno} from {node.module}")
        seeded = {
            id(call)
            for function in tree.body
            if isinstance(function, ast.FunctionDef) and f"{name}.{function.name}" in SEEDED
            for call, _ in calls(function)
        }
        for call, what in calls(tree):
            module, _, last = what.rpartition(".")
            given = {word.arg for word in call.keywords}
            if (
                (module in ("np.random", "numpy.random") and last not in NUMPY_GENERATORS)
                or (last == "default_rng" and not call.args and not given)
                or (last in ("manual_seed", "seed") and module in ("torch", "torch.random", "torch.cuda"))
                or (module == "torch" and last in GLOBAL_DRAWS and "generator" not in given)
                or (last in IN_PLACE_DRAWS and "generator" not in given)
            ) and id(call) not in seeded:
                found.append(f"{name}:{call.lineno} {what}")
    return found


# -------------------------------------------------------------------------------------------------------- the checks

RULES: dict[str, Callable[[list[Module]], list[str]]] = {
    "rooms import in their order": wrong_order,
    "no circle inside a package": circles,
    "nothing imports the package root": imports_from_root,
    "only data.interchange imports lhotse, and only the command line that package": opens_the_border,
    "no module is a holdall": holdalls,
    "what is public is documented": undocumented,
    "only the command line prints and reads arguments": talks,
    "nothing is pickled": pickles,
    "randomness is an argument": draws_globally,
}


@pytest.mark.parametrize("rule", RULES)
def test_the_house_keeps_the_rule(rule: str) -> None:
    offenders = RULES[rule](MODULES)
    assert not offenders, "\n" + "\n".join(offenders)


def test_no_two_files_of_tests_share_a_name() -> None:
    """pytest imports them by their names alone, and stops at the second."""
    names = Counter(path.name for path in TESTS.rglob("*.py") if path.name not in ("conftest.py", "__init__.py"))
    assert [name for name, n in names.items() if n > 1] == []


def test_files_and_functions_stay_within_their_budget() -> None:
    offenders = too_long({str(path.relative_to(SOURCE)): path.read_text(encoding="utf-8") for path in FILES})
    assert not offenders, "\n" + "\n".join(offenders)


BAD = {
    "rooms import in their order": [
        ("metrics", "from .nets import heads"),
        ("nets.heads", "from ..learners.metric import Prototypes"),
        ("nets.heads", "import metavox.training"),
        ("nets.heads", "from metavox.cli import app"),
        ("audio", "def late():\n    from .features import log_mel"),
        ("training", "from .evaluation.protocols import evaluate"),
        ("training", "from .cli.output import note"),
        ("helpdesk", "x = 1"),
    ],
    "no circle inside a package": [("nets.heads", "from .heads2 import a"), ("nets.heads2", "from . import heads")],
    "nothing imports the package root": [
        ("nets.heads", "from .. import __version__"),
        ("metrics", "from . import contracts"),
        ("losses", "import metavox"),
        ("losses", "from metavox import CommandRecognizer"),
    ],
    "only data.interchange imports lhotse, and only the command line that package": [
        ("data.bank", "import lhotse"),
        ("cli.train", "def late():\n    from lhotse.cut import CutSet"),
        ("training", "from .data.interchange.formats import detect"),
        ("data.manifests", "from .interchange import formats"),
        ("data.word_alignment.corpus", "from ..interchange.write import write_corpus"),
    ],
    "no module is a holdall": [("nets.utils", "x = 1"), ("helpers", "x = 1"), ("base.nets", "x = 1")],
    "what is public is documented": [
        ("losses", "x = 1"),
        ("losses", '"""Documented."""\ndef loss():\n    pass'),
        ("losses", '"""Documented."""\nclass Loss:\n    x = 1'),
    ],
    "only the command line prints and reads arguments": [
        ("losses", "print(1)"),
        ("demo", "def f():\n    import sys\n    return sys.argv[1]"),
        ("training", "import sys\nsys.stdout.write('x')"),
        ("training", "input('sure? ')"),
    ],
    "nothing is pickled": [
        ("checkpoint", "import pickle"),
        ("checkpoint", "from torch import load"),
        ("checkpoint", "torch.load(path, weights_only=True)"),
        ("data.bank", "np.load(path, allow_pickle=True)"),
        ("data.bank", "np.load(path)"),
    ],
    "randomness is an argument": [
        ("augment", "np.random.seed(0)"),
        ("augment", "np.random.rand(3)"),
        ("augment", "import random"),
        ("augment", "from numpy.random import rand"),
        ("augment", "np.random.default_rng()"),
        ("augment", "torch.manual_seed(0)"),
        ("augment", "torch.randn(3)"),
        ("augment", "x.normal_()"),
        ("checkpoint", "def load():\n    torch.manual_seed(0)"),
    ],
}


def test_every_rule_is_shown_to_fail() -> None:
    assert set(BAD) == set(RULES)


@pytest.mark.parametrize(
    ("rule", "modules"),
    [
        (rule, bad if rule == "no circle inside a package" else [one])
        for rule, bad in BAD.items()
        for one in (bad[:1] if rule == "no circle inside a package" else bad)
    ],
)
def test_a_rule_finds_what_breaks_it(rule: str, modules: list[tuple[str, str]]) -> None:
    assert RULES[rule]([(name, ast.parse(text)) for name, text in modules])


GOOD = [
    ("nets.heads", '"""Doc."""\nfrom ..losses import membership\nfrom .alignment import frame_mask'),
    ("nets.alignment", '"""Doc."""\nimport numpy.random\nimport torch\ndef _private():\n    pass'),
    ("losses", '"""Doc."""\nfrom .contracts import Batch\nimport sys\nx = sys.platform'),
    ("augment", '"""Doc."""\nrng = np.random.default_rng([1, 2])\ntorch.randn(3, generator=g)\nx.normal_(generator=g)'),
    ("data.manifests", '"""Doc."""\nfrom .stored import require_empty'),
    ("data.interchange.cuts", '"""Doc."""\nfrom lhotse.audio import Recording\nfrom .rows import Row'),
    ("cli.data_import", '"""Doc."""\nfrom ..data.interchange.write import write_corpus'),
    ("cli.output", '"""Doc."""\nimport sys\nfrom ..training import learn\nprint(sys.argv)'),
    ("checkpoint", '"""Doc."""\ndef seeded():\n    """Doc."""\n    torch.manual_seed(0)'),
    ("data.bank", '"""Doc."""\nnp.load(path, allow_pickle=False)\ngenerator.manual_seed(1)\njson.load(file)'),
]


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_finds_nothing_where_all_is_well(rule: str) -> None:
    assert RULES[rule]([(name, ast.parse(text)) for name, text in GOOD]) == []


def test_a_long_file_and_a_long_function_are_found() -> None:
    body = "    x = 1\n"
    assert too_long({"good.py": "x = 1\n" * 400 + "", "fine.py": "def f():\n" + body * 59}) == []
    assert len(too_long({"long.py": "x = 1\n" * 401})) == 1
    assert len(too_long({"function.py": "class A:\n  def f(self):\n" + body * 60})) == 1


# ---------------------------------------------------------------------------------------------- what an import loads


def loaded_by(*statements: str) -> list[set[str]]:
    """Packages that are loaded after each statement, in a fresh interpreter."""
    script = "import json, sys\n"
    for statement in statements:
        script += f"{statement}\nprint('loaded', json.dumps(sorted({{m.split('.')[0] for m in sys.modules}})))\n"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    lines = [line.removeprefix("loaded ") for line in found.stdout.splitlines() if line.startswith("loaded ")]
    return [set(json.loads(line)) for line in lines]


def test_what_is_loaded_is_seen() -> None:
    before, after = loaded_by("pass", "import wave")
    assert "wave" in after - before


def test_importing_the_package_and_its_runtime_loads_nothing_that_a_product_does_not_carry() -> None:
    root, runtime = loaded_by("import metavox", "from metavox import CommandRecognizer, SpeakerVerifier")
    assert not root & {"torch", "numpy", *HEAVY}
    assert "torch" in runtime
    assert not runtime & HEAVY


def test_help_answers_without_loading_torch() -> None:
    statement = """
sys.argv = ['metavox', '--help']
from metavox.cli import main
try:
    main()
except SystemExit as stop:
    assert stop.code == 0
"""
    (loaded,) = loaded_by(statement)
    assert "metavox" in loaded
    assert not loaded & {"torch", "numpy", *HEAVY}
