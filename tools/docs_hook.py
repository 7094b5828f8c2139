"""What `mkdocs build` makes of the repository: pages of the lessons, and links that lead out of `docs/`.

A link of a page to a file of the repository holds in both places: there as it is written, and on the site as a page
under `repository/` (Markdown, code and folders) or as the file itself (everything else). Comments that tell
`tests/docs` how to run a block are taken away. `mkdocs.yml` names this file under `hooks`.
"""

import os
import re
from pathlib import Path
from posixpath import relpath
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LESSONS = {"lessons": "lessons", "lessons/zh": "zh/lessons"}
"""Folder of percent scripts in the repository: folder of their pages on the site."""
ORDER = (
    *("five_steps", "support_conditioned", "universal_representation", "english_to_chinese"),
    *("averaging", "who_may_say_what"),
)
"""Lessons in the order in which they are read; others follow by name."""
CODE = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".toml": "toml", ".sh": "sh", ".txt": "text", "": "text"}
"""Suffixes of files that are shown as a page, and what they are written in."""

LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:|#)([^)\s#]+)(#[^)\s]*)?(?=\))")
FENCE = re.compile(r"^( *)(```+|~~~+)[^\n]*\n.*?^\1\2 *$", re.MULTILINE | re.DOTALL)
TORN = re.compile(r"(?<=[\u3000-\u9fff\uff00-\uffef])\n(?=[\u3000-\u9fff\uff00-\uffef])")
"""A line break inside a Chinese paragraph, which would be shown as a space."""
CODED = re.compile(r"(`[^`]*`)")
FORMULA = re.compile(r"\$\$(.+?)\$\$|\$([^$\s](?:[^$]*[^$\s])?)\$", re.DOTALL)
HEADED = re.compile(r"\$([^$]+)\$")
DIRECTIVE = re.compile(r"^ *<!-- (?:run with|expect|skip)\b[^\n]*-->\n", re.MULTILINE)


# ------------------------------------------------------------------------------------------------------------- lessons


def lessons(root: Path = ROOT) -> dict[str, Path]:
    """Page on the site: script of the repository, in the order of reading, after the page that lists them."""
    found = {}
    for folder, pages in LESSONS.items():
        scripts = {path.stem: path for path in (root / folder).glob("*.py")}
        names = [name for name in ORDER if name in scripts] + sorted(set(scripts) - set(ORDER))
        if (root / folder / "README.md").is_file():
            found[f"{pages}/index.md"] = root / folder / "README.md"
        found |= {f"{pages}/{name}.md": scripts[name] for name in names}
    return found


def as_page(script: str) -> str:
    """A percent script as Markdown: cells of text as they are, cells of code in fences."""
    parts: list[str] = []
    for cell in re.split(r"^(?=# %%)", script, flags=re.MULTILINE):
        marker, _, body = cell.partition("\n") if cell.startswith("# %%") else ("", "", cell)
        if "[markdown]" in marker:
            parts.append(with_formulas("\n".join(re.sub(r"^# ?", "", line) for line in body.strip().splitlines())))
        elif body.strip() and (marker or not _is_header(body)):
            parts.append(f"```python\n{body.strip()}\n```")
    return "\n\n".join(parts) + "\n"


def with_formulas(text: str) -> str:
    """Text whose TeX between dollars is MathML, which browsers set without a script; in headings it is plain."""
    lines = [HEADED.sub(r"\1", line) if line.startswith("#") else line for line in text.split("\n")]
    parts = CODED.split("\n".join(lines))  # every second part is code
    for at in range(0, len(parts), 2):
        parts[at] = FORMULA.sub(_formula, parts[at])
    return "".join(parts)


def _formula(found: re.Match[str]) -> str:
    from latex2mathml.converter import convert

    return convert(found[1] or found[2], display="block" if found[1] else "inline")


def _lesson(source: Path) -> str:
    text = source.read_text(encoding="utf-8")
    return as_page(text) if source.suffix == ".py" else text


def _is_header(text: str) -> bool:
    """What stands before the first cell of a script and is for tools: comments alone."""
    return all(not line.strip() or line.startswith("#") for line in text.splitlines())


# --------------------------------------------------------------------------------------------------------------- links


def place_on_site(target: Path, docs: Path, root: Path) -> str | None:
    """Where the site has a file or folder of the repository; None for what is not in it."""
    if target.is_relative_to(docs) and not target.is_dir():
        return target.relative_to(docs).as_posix()
    if not target.is_relative_to(root) or not target.exists():
        return None
    path = target.relative_to(root).as_posix()
    script = target.with_suffix(".py") if target.suffix == ".ipynb" else target  # a notebook is made of its script
    for page, source in lessons(root).items():
        if source == script:
            return page
    if target.is_dir():
        return f"repository/{path}/index.md"
    if target.suffix == ".md":
        return f"repository/{path}"
    return f"repository/{path}.md" if target.suffix in CODE else f"repository/{path}"


def relink(text: str, source: Path, page: str, docs: Path, root: Path = ROOT) -> tuple[str, dict[str, Path]]:
    """A page with its links as the site needs them, and what of the repository they lead to by its place there."""
    wanted: dict[str, Path] = {}

    def turn(link: re.Match[str]) -> str:
        target = Path(os.path.normpath(source.parent / link[1]))
        place = place_on_site(target, docs, root)
        if place is None:
            return link[0]  # mkdocs says that it leads nowhere
        if place.startswith("repository/"):
            wanted[place] = target
        return relpath(place, page.rpartition("/")[0] or ".") + (link[2] or "")

    parts, at = [], 0
    for fence in FENCE.finditer(text):  # code has no links
        parts += [LINK.sub(turn, text[at : fence.start()]), fence[0]]
        at = fence.end()
    return "".join([*parts, LINK.sub(turn, text[at:])]), wanted


def shown(target: Path, root: Path = ROOT) -> str:
    """A file or folder of the repository as Markdown."""
    name = target.relative_to(root).as_posix()
    if target.is_dir():
        inside = sorted(path for path in target.iterdir() if not path.name.startswith((".", "_")))
        return f"# {name}\n\n" + "".join(f"- [{path.name}]({path.name})\n" for path in inside)
    text = target.read_text(encoding="utf-8")
    if target.suffix == ".md":
        return text
    fence = "`" * max([3, *(len(ticks) + 1 for ticks in re.findall("`+", text))])
    return f"---\nsearch:\n  exclude: true\n---\n\n# {name}\n\n{fence}{CODE[target.suffix]}\n{text.rstrip()}\n{fence}\n"


# --------------------------------------------------------------------------------------------------------------- hooks


def on_config(config: Any) -> Any:
    """Spell out what the navigation names by a pattern, such as `decisions/*.md`."""
    from pymdownx.slugs import slugify

    config.mdx_configs.setdefault("toc", {})["slugify"] = slugify(case="lower")
    docs = Path(config.docs_dir)
    pages = [*lessons(), *sorted(path.relative_to(docs).as_posix() for path in docs.rglob("*.md"))]
    config.nav = _spelled_out(config.nav, pages)
    return config


def _spelled_out(nav: list[Any], pages: list[str]) -> list[Any]:
    found: list[Any] = []
    for entry in nav:
        if isinstance(entry, str) and "*" in entry:
            pattern = re.escape(entry).replace(r"\*", "[^/]*")
            found += [page for page in pages if re.fullmatch(pattern, page)]
        elif isinstance(entry, dict):
            for title, part in entry.items():
                inner = _spelled_out(part, pages) if isinstance(part, list) else part
                found += [{title: inner}] if inner else []  # a section without a page is none
        else:
            found.append(entry)
    return found


_SOURCES: dict[str, Path] = {}
"""Page of the site: file of the repository that it shows, where that is not in docs/."""


def on_files(files: Any, config: Any) -> Any:
    """Add the lessons, and whatever the pages link to outside docs/."""
    from mkdocs.structure.files import File

    docs = Path(config.docs_dir)
    _SOURCES.clear()
    for page, script in lessons().items():
        _SOURCES[page] = script
        files.append(File.generated(config, page, content=_lesson(script)))
    waiting = [(file.src_uri, docs / file.src_uri, file.content_string) for file in files.documentation_pages()]
    waiting = [(page, _SOURCES.get(page, source), text) for page, source, text in waiting]
    while waiting:
        page, source, text = waiting.pop()
        for place, target in relink(text, source, page, docs)[1].items():
            if place in _SOURCES:
                continue
            _SOURCES[place] = target / "index.md" if target.is_dir() else target
            if place.endswith(".md"):
                content = shown(target)
                files.append(File.generated(config, place, content=content))
                waiting.append((place, _SOURCES[place], content))
            else:
                files.append(File.generated(config, place, abs_src_path=str(target)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Links as the site needs them; nothing of what only tests read."""
    docs, name = Path(config.docs_dir), page.file.src_uri
    text = TORN.sub("", markdown) if _is_chinese(name) else markdown
    return relink(DIRECTIVE.sub("", text), _SOURCES.get(name, docs / name), name, docs)[0]


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Say which language a page is in."""
    return output.replace('<html lang="en"', '<html lang="zh"', 1) if _is_chinese(page.file.src_uri) else output


def _is_chinese(page: str) -> bool:
    return page.startswith("zh/") or page.endswith(".zh.md")
