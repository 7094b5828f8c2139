"""What the site makes of the repository: lessons as pages, and links that hold here and there."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from blocks import PAGES, ROOT

import metavox


@pytest.fixture(scope="module")
def hook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_hook", ROOT / "tools" / "docs_hook.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A small repository."""
    files = {
        "docs/page.md": "# Page",
        "docs/decisions/0001.md": "# One",
        "benchmarks/a.json": "{}",
        "benchmarks/a.md": "[figures](a.json)",
        "recipes/own.yaml": "a: 1  # ```",
        "lessons/five_steps.py": "# %% [markdown]\n# # Five\n",
        "lessons/zh/five_steps.py": "# %% [markdown]\n# # 五\n",
        "lessons/extra.py": "",
        "lessons/README.md": "[Five](five_steps.ipynb)",
        "lessons/five_steps.ipynb": "{}",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_a_percent_script_becomes_a_page(hook: ModuleType) -> None:
    script = (
        "#!/usr/bin/env python\n# %% [markdown]\n# # Title\n#\n# Text with `code`.\n\n# %%\nx = 1\n\n# why\nprint(x)\n"
    )
    assert hook.as_page(script) == "# Title\n\nText with `code`.\n\n```python\nx = 1\n\n# why\nprint(x)\n```\n"


def test_formulas_are_set_without_a_script_and_code_is_left(hook: ModuleType) -> None:
    text = "# About $K$ models\n\nThe mean of $K$:\n\n$$\\frac{1}{K}$$\n\nand `$HOME` costs 5 $."
    page = hook.with_formulas(text)
    assert page.startswith("# About K models\n")
    assert page.count("<math") == 2
    assert page.count('display="block"') == 1
    assert "<mfrac>" in page
    assert page.endswith("and `$HOME` costs 5 $.")


def test_lessons_stand_in_the_order_of_reading(hook: ModuleType, house: Path) -> None:
    assert list(hook.lessons(house)) == [
        "lessons/index.md",
        "lessons/five_steps.md",
        "lessons/extra.md",
        "zh/lessons/five_steps.md",
    ]
    assert hook.lessons(house / "docs") == {}


@pytest.mark.parametrize(
    ("link", "on_site"),
    [
        ("decisions/0001.md#why", "decisions/0001.md#why"),
        ("../benchmarks/a.json", "repository/benchmarks/a.json"),
        ("../benchmarks/a.md", "repository/benchmarks/a.md"),
        ("../recipes/own.yaml", "repository/recipes/own.yaml.md"),
        ("../recipes", "repository/recipes/index.md"),
        ("../lessons/zh/five_steps.py", "zh/lessons/five_steps.md"),
        ("../lessons/five_steps.ipynb", "lessons/five_steps.md"),
        ("../lessons/README.md", "lessons/index.md"),
        ("https://example.org/a.md", "https://example.org/a.md"),
        ("#here", "#here"),
        ("../nowhere.md", "../nowhere.md"),
        ("../../outside.md", "../../outside.md"),
    ],
)
def test_a_link_is_turned_to_where_the_site_has_it(hook: ModuleType, house: Path, link: str, on_site: str) -> None:
    docs = house / "docs"
    text, wanted = hook.relink(f"see [this]({link})", docs / "page.md", "page.md", docs, house)
    assert text == f"see [this]({on_site})"
    assert list(wanted) == ([on_site] if on_site.startswith("repository/") else [])


def test_links_of_pages_from_elsewhere_lead_back(hook: ModuleType, house: Path) -> None:
    text = "[a](a.json), [page](../docs/page.md)\n\n```\n[kept](a.json)\n```\n"
    place, docs = "repository/benchmarks/a.md", house / "docs"
    turned, _ = hook.relink(text, house / "benchmarks" / "a.md", place, docs, house)
    assert turned == text.replace("../docs/page.md", "../../page.md")


def test_code_is_shown_in_a_fence_that_holds_it(hook: ModuleType, house: Path) -> None:
    shown = hook.shown(house / "recipes" / "own.yaml", house)
    assert "# recipes/own.yaml\n\n````yaml\na: 1  # ```\n````\n" in shown
    assert hook.shown(house / "recipes", house) == "# recipes\n\n- [own.yaml](own.yaml)\n"


def test_what_only_tests_read_is_taken_away(hook: ModuleType) -> None:
    text = "a\n\n<!-- run with [metavox train]: train.steps=3 -->\n<!-- expect: exit 2 -->\n```sh\nmetavox train\n```\n"
    assert hook.DIRECTIVE.sub("", text) == "a\n\n```sh\nmetavox train\n```\n"


def test_every_link_of_the_pages_leads_somewhere() -> None:
    """In the repository; the strict build says the same of the site."""
    dead = []
    for page in PAGES:
        text = re.sub(
            r"^( *)```.*?^\1```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
        )
        for link in re.findall(r"\]\((?!https?:|#)([^)\s#]+)", text):
            if not ((ROOT / page).parent / link).exists():
                dead.append(f"{page}: {link}")
    assert dead == []


def test_every_public_name_is_in_the_reference() -> None:
    pages = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "api").glob("*.md"))
    named = re.findall(r"^::: metavox\.([\w.]+)", pages, re.MULTILINE)
    faces = {name.rpartition(".")[2] for name in named}
    assert set(dir(metavox)) - {"__version__"} <= faces
    for name in named:
        path = ROOT / "src" / "metavox" / name.replace(".", "/")
        module = path if path.is_dir() or path.with_suffix(".py").exists() else path.parent
        assert module.is_dir() or module.with_suffix(".py").exists(), f"{name} is in no module"


def test_every_page_is_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    nav = yaml.safe_load(text)["nav"]
    named = set(re.findall(r"[\w/*-]+\.md", str(nav)))
    pages = {page.removeprefix("docs/") for page in PAGES if page.startswith("docs/")}
    assert {page for page in pages if not page.startswith("decisions/")} == {name for name in named if "*" not in name}
    assert "decisions/*.md" in named
