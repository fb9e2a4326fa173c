"""The documents as a site: Sphinx makes it without a warning, with every page in it."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "recipes").glob("*/README.md")]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The directory of the site, and what Sphinx said when it made it."""
    if not importlib.util.find_spec("sphinx"):
        missing = "sphinx is not installed: pip install '.[docs]'"
        pytest.fail(missing) if os.environ.get("CI") == "true" else pytest.skip(missing)
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-c", "docs", ".", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return out, done.stdout + done.stderr


def test_it_is_made_without_a_warning(site):
    assert site[1] == ""


def test_every_page_is_in_it_and_its_front_page_leads_to_them(site):
    out, _ = site
    front = re.search(r'url=([^"]+)"', (out / "index.html").read_text(encoding="utf-8"))[1]
    listed = (out / front).read_text(encoding="utf-8")
    for page in PAGES:
        made = page.relative_to(ROOT).with_suffix(".html")
        assert (out / made).is_file()
        assert f'href="{os.path.relpath(out / made, (out / front).parent)}"' in listed or made.name == Path(front).name
