"""The documents as a site: Sphinx makes it without a warning, with every page in it."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from asr.config import COMMANDS
from asr.config.schema import list_options

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


@pytest.fixture(scope="module")
def options_page():
    """The script that writes docs/options.md, and the page as it is."""
    spec = importlib.util.spec_from_file_location("document_options", ROOT / "scripts" / "document_options.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script, (ROOT / "docs" / "options.md").read_text(encoding="utf-8")


def test_the_page_of_options_is_what_the_schemas_say(options_page):
    script, text = options_page
    assert script.page() == text, "docs/options.md is of other options: python scripts/document_options.py"


def test_every_command_is_on_its_page():
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert [name for name in COMMANDS if f"\nasr {name} " not in page] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_of_a_command_is_on_the_page(options_page, command):
    _, text = options_page
    own, shared = re.search(rf"^### asr {command}$(.*?)^##", text, re.M | re.S)[1], text.partition("## Sections")[2]
    for name, option in list_options(COMMANDS[command]).items():
        rows = re.findall(rf"^\| `{re.escape(name)}` \|.*\|$", shared if "." in name else own, re.M)
        assert rows, f"{name}: not on the page"
        assert option.help
        assert any(option.help.replace("<", r"\<").replace("*", r"\*") in row for row in rows)
