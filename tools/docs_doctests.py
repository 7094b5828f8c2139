"""Let the site show the sessions of docstrings as code: a paragraph that begins with `>>>` goes into a fence."""

import re
from typing import Any

from griffe import Extension

SESSION = re.compile(r"^>>> .*(?:\n.+)*", re.MULTILINE)
FLAG = re.compile(r" *# doctest: .*$", re.MULTILINE)


class Doctests(Extension):
    """What `mkdocs.yml` names under `extensions` of mkdocstrings."""

    def on_object(self, *, obj: Any, **_: Any) -> None:
        """Rewrite the docstring of whatever is collected."""
        if obj.docstring:
            obj.docstring.value = SESSION.sub(lambda at: f"```pycon\n{FLAG.sub('', at[0])}\n```", obj.docstring.value)
