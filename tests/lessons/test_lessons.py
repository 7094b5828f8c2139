"""Lessons: fresh notebooks, the same code in both languages, and every script runs from top to bottom."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
LESSONS = ROOT / "lessons"
ENGLISH = sorted(LESSONS.glob("*.py"))
CHINESE = sorted((LESSONS / "zh").glob("*.py"))
NAMES = [path.stem for path in ENGLISH]
LARGE = {"keras": "keras", "tensorflow": "tensorflow-cpu"}
"""What only the environment of the lessons has, and how it is installed."""


def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("lessons_tool", ROOT / "tools" / "lessons.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


lessons = tool()


def require_installed(script: Path) -> None:
    for package, name in LARGE.items():
        needed = re.search(rf"^(?:import|from) {package}\b", script.read_text(encoding="utf-8"), re.MULTILINE)
        if needed and importlib.util.find_spec(package) is None:
            pytest.skip(f"{script.stem} needs {name}, which make lessons installs")


# ------------------------------------------------------------------------------------------------------- what is there


def test_notebooks_are_what_their_scripts_give() -> None:
    pytest.importorskip("nbformat")
    assert lessons.stale() == [], "run python tools/lessons.py build"


def test_every_lesson_is_there_in_both_languages_and_in_both_lists() -> None:
    assert "averaging" in NAMES
    assert [path.stem for path in CHINESE] == NAMES
    for page in (LESSONS / "README.md", LESSONS / "zh" / "README.md"):
        told = page.read_text(encoding="utf-8")
        assert [name for name in NAMES if f"]({name}.ipynb)" not in told] == []
        assert set(re.findall(r"\]\((\w+)\.ipynb\)", told)) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_code_of_both_languages_agrees(name: str) -> None:
    english, chinese = LESSONS / f"{name}.py", LESSONS / "zh" / f"{name}.py"
    assert lessons.same_code(english.read_text(encoding="utf-8"), chinese.read_text(encoding="utf-8"))


@pytest.mark.parametrize("script", CHINESE, ids=lambda path: path.stem)
def test_chinese_text_is_chinese(script: Path) -> None:
    texts = [cell.source for cell in lessons.cells_of(script.read_text(encoding="utf-8")) if cell.kind == "markdown"]
    assert all(re.search(r"[\u4e00-\u9fff]", text) for text in texts)


# ------------------------------------------------------------------------------------------------------------- they run


def run(script: Path, folder: Path) -> None:
    require_installed(script)
    command = [sys.executable, "-W", "error::DeprecationWarning:metavox", script]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert list(folder.iterdir()) == [], "a lesson leaves nothing in the folder that it is run in"


@pytest.mark.slow  # make lessons runs them all, as notebooks, and so does every run of .ci
@pytest.mark.synth
@pytest.mark.parametrize("script", [*ENGLISH, *CHINESE], ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_lesson_runs_from_top_to_bottom(script: Path, tmp_path: Path) -> None:
    run(script, tmp_path)


# ------------------------------------------------------------------------------------------------------------- the tool

SCRIPT = """# %% [markdown]
# # A title
#
# Text of
# two lines.

# %%
x = 1  # one
print(f"x is {x}")
"""


def test_a_script_becomes_cells_and_always_the_same_notebook() -> None:
    pytest.importorskip("nbformat")
    assert [(cell.kind, cell.source) for cell in lessons.cells_of(SCRIPT)] == [
        ("markdown", "# A title\n\nText of\ntwo lines."),
        ("code", 'x = 1  # one\nprint(f"x is {x}")'),
    ]
    made = lessons.notebook_of(SCRIPT)
    assert made == lessons.notebook_of(SCRIPT)
    cells = json.loads(made)["cells"]
    assert [cell["id"] for cell in cells] == ["cell-01", "cell-02"]
    assert cells[1]["outputs"] == []


def test_lines_of_a_chinese_paragraph_are_joined_without_a_space() -> None:
    pytest.importorskip("nbformat")
    made = json.loads(lessons.notebook_of("# %% [markdown]\n# 第一行，\n# 第二行 and\n# more\n"))
    assert "".join(made["cells"][0]["source"]) == "第一行，第二行 and\nmore"


def test_code_agrees_up_to_comments_and_what_is_said() -> None:
    said = SCRIPT.replace("# A title", "# 标题").replace("# one", "# 一").replace("x is {x}", "{x} 是 x 的值")
    assert lessons.same_code(SCRIPT, said)
    assert not lessons.same_code(SCRIPT, SCRIPT.replace("x = 1", "x = 2"))
    assert not lessons.same_code(SCRIPT, SCRIPT.replace("{x}", "{x + 1}"))
    assert not lessons.same_code(SCRIPT, SCRIPT + "\n# %%\ny = 1\n")


@pytest.mark.parametrize("script", ["x = 1\n", "# %% [markdown]\nx = 1\n"])
def test_what_is_no_lesson_is_refused(script: str) -> None:
    with pytest.raises(ValueError, match="begin"):
        lessons.cells_of(script, "bad.py")


def test_stale_missing_and_orphaned_notebooks_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("nbformat")
    (tmp_path / "zh").mkdir()
    (tmp_path / "one.py").write_text(SCRIPT, encoding="utf-8")
    (tmp_path / "zh" / "one.py").write_text(SCRIPT, encoding="utf-8")
    assert lessons.stale(tmp_path) == ["one.ipynb", "zh/one.ipynb"]
    assert lessons.main(["--folder", str(tmp_path), "build"]) == 0
    assert lessons.main(["--folder", str(tmp_path), "check"]) == 0
    (tmp_path / "one.py").write_text(SCRIPT.replace("x = 1", "x = 2"), encoding="utf-8")
    (tmp_path / "lost.ipynb").write_text("{}", encoding="utf-8")
    assert lessons.main(["--folder", str(tmp_path), "check"]) == 1
    told = capsys.readouterr().err
    assert "one.ipynb is not what its script gives" in told
    assert "lost.ipynb" in told


def test_a_notebook_runs_in_a_fresh_kernel_and_a_failure_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    (tmp_path / "good.py").write_text(SCRIPT, encoding="utf-8")
    (tmp_path / "bad.py").write_text("# %%\nraise ValueError('no bread')\n", encoding="utf-8")
    lessons.main(["--folder", str(tmp_path), "build"])
    assert lessons.main(["--folder", str(tmp_path), "run", "--show", "good"]) == 0
    assert "x is 1" in capsys.readouterr().out
    assert lessons.main(["--folder", str(tmp_path), "run"]) == 1
    assert "no bread" in capsys.readouterr().err
    assert lessons.main(["--folder", str(tmp_path), "run", "none"]) == 2
