import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = [REPOSITORY / "README.md", *sorted(REPOSITORY.glob("docs/**/*.md"))]
FOLDERS = "bench|docs|examples|gateway|protocol|scripts|tests|tools|worker"
PATH = re.compile(rf"(?<![\w/.-])(?:{FOLDERS})/[\w./-]*\w")
MODULE = re.compile(r"python -m ((?:bench|tools)(?:\.\w+)+)")
LAYOUT = re.compile(r"^## Packages$.*?^```$(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    named = {path for path in PATH.findall(page.read_text("utf-8"))}

    assert [path for path in sorted(named) if not (REPOSITORY / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_command_of_a_page_is_there(page: Path) -> None:
    named = set(MODULE.findall(page.read_text("utf-8")))
    files = {name: REPOSITORY / f"{name.replace('.', '/')}.py" for name in named}

    assert [name for name, file in sorted(files.items()) if not file.is_file()] == []


def test_every_file_of_the_layout_is_there() -> None:
    found = LAYOUT.search((REPOSITORY / "docs" / "architecture.md").read_text("utf-8"))
    assert found is not None
    named = set(re.findall(r"\b\w+\.py\b", found[1]))
    existing = {
        file.name
        for name in ("gateway", "protocol", "worker")
        for file in REPOSITORY.glob(f"{name}/**/*.py")
    }

    assert len(named) > 80
    assert named - existing == set()
