"""How Sphinx makes a site of the documents: `bash scripts/docs.sh`.

Its source is the repository, not this folder, so that links from a document to a recipe or a module are those that
GitHub has. Pages are what is in `include_patterns`; other files that are linked to go with the site as they are.
"""

import re
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[1]
FOLDER = re.compile(r"\]\(((?:\.\./)*recipes/\w+)\)")  # where GitHub shows the folder's README

project = "asr-transducer"
release = re.search(r'__version__ = "(.*)"', (ROOT / "asr" / "__init__.py").read_text(encoding="utf-8"))[1]
extensions = ["myst_parser"]
nitpicky = True
root_doc = "docs/index"
include_patterns = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/**.md", "recipes/*/README.md"]
exclude_patterns = [".[!g]*", "docs/_build", "recipes/*/[!R]*", "asr", "conf", "local", "scripts", "tests", "torture"]
myst_heading_anchors = 3
highlight_language = "none"  # of blocks that name no language: what a command prints

html_theme = "furo"
html_title = f"{project} {release}"
html_show_copyright = False
html_extra_path = ["_site"]  # the front page of the site, which leads to docs/index.html


def adapt(app: Sphinx, page: str, source: list[str]) -> None:
    """Links to a recipe's folder lead to its page, and a page of figures that a script wrote gets a title."""
    text = FOLDER.sub(r"](\1/README.md)", source[0])
    source[0] = text if text.startswith("# ") else f"# {Path(page).parent.name}: {Path(page).name}\n\n{text}"


def setup(app: Sphinx) -> None:
    """What Sphinx calls."""
    app.connect("source-read", adapt)
