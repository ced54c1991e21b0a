"""Who imports whom: the core knows nothing of Lightning, callbacks and commands, lazy imports included."""

import ast
from pathlib import Path

import pytest

import reasonedit

ROOT = Path(reasonedit.__file__).parent
CORE = (
    *(
        "boxes",
        "codebook",
        "design",
        "editor",
        "embedding",
        "evidence",
        "explain",
        "groups",
        "images",
        "keys",
        "kinds",
        "matching",
    ),
    *("metrics", "pipeline", "prompts", "registry", "retrieval", "types", "validation", "vlm"),
)
FOREIGN = (
    "lightning",
    "reasonedit.data.world",
    "reasonedit.callbacks",
    "reasonedit.commands",
    "reasonedit.experiments",
    "reasonedit.report",
)


def imported(path: Path) -> set[str]:
    """The modules that a file names in its imports, wherever they stand; those for type checkers alone do not count."""
    package = ["reasonedit", *path.relative_to(ROOT).parts[:-1]]
    found = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            before = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*before, *([node.module] if node.module else [])])
            found |= {source, *(f"{source}.{alias.name}" for alias in node.names)}
    return found


def files(*parts: str) -> list[Path]:
    """The files of a package, or the one of a module."""
    place = ROOT.joinpath(*parts)
    return sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


@pytest.mark.parametrize("part", CORE)
def test_the_core_is_free_of_its_faces(part):
    for path in files(part):
        above = [name for name in imported(path) if any(within(name, package) for package in FOREIGN)]
        assert not above, f"{path.relative_to(ROOT)} imports {above[0]}"


@pytest.mark.parametrize(
    ("part", "above"),
    [
        ("disk", ("memory", "contents", "repair", "backup", "erase", "hub", "rescue")),
        ("rescue", ("repair", "backup", "erase", "hub")),
    ],
)
def test_the_folder_knows_nothing_of_what_uses_it(part, above):
    for path in files("codebook", part):
        names = [name for name in imported(path) for a in above if within(name, f"reasonedit.codebook.{a}")]
        assert not names, f"{path.relative_to(ROOT)} imports {names[0]}"


def test_imports_are_found_wherever_they_stand(tmp_path):
    assert "reasonedit.codebook.disk.files" in imported(ROOT / "codebook" / "disk" / "journal.py")
    assert "sentencex" in imported(ROOT / "validation.py")  # within a function
    assert "lightning" in imported(ROOT / "ranks.py")
    assert "transformers" not in imported(ROOT / "vlm" / "frozen.py")  # for type checkers alone
