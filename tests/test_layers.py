"""Who imports whom: no circle anywhere, and a core that knows nothing of Lightning, callbacks, commands and the world.

Lazy imports count; those for type checkers alone do not.
"""

import ast
from functools import cache
from pathlib import Path

import networkx as nx
import pytest

import reasonedit

ROOT = Path(reasonedit.__file__).parent
FACES = (
    *("callbacks", "cli", "commands", "config", "experiments", "module", "ranks", "report", "serve"),
    *("runs", "data.base_pass", "data.shared_answers", "data.stream"),
)
"""What stands above the core: all that is Lightning's, and the command line."""
WORLD = "data.world"
"""The embedded world and its VLM, which the core only knows by the names under which they are offered."""


@cache
def imported(path: Path) -> frozenset[str]:
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
    return frozenset(found)


def files(*parts: str) -> list[Path]:
    """The files of a package, or the one of a module."""
    place = ROOT.joinpath(*parts)
    return sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def modules() -> dict[str, Path]:
    """All modules of the package by their names within it; not the package itself, which imports lazily for users."""
    # In a checkout the callbacks are a link, which rglob does not follow.
    paths = {*ROOT.rglob("*.py"), *(ROOT / "callbacks").rglob("*.py")}
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in paths}
    return {name.removesuffix(".__init__"): path for name, path in names.items() if "__init__" != name != "__main__"}


def is_of(name: str, parts: tuple[str, ...]) -> bool:
    return any(within(name, part) for part in parts)


def test_the_core_is_free_of_its_faces_and_of_the_world():
    core = {name: path for name, path in modules().items() if not is_of(name, (*FACES, WORLD))}
    assert len(core) > 100
    foreign = ("lightning", *(f"reasonedit.{name}" for name in (*FACES, WORLD)))
    for name, path in core.items():
        above = [other for other in imported(path) if is_of(other, foreign)]
        assert not above, f"{name} imports {above[0]}"


def test_the_world_is_a_part_that_one_could_delete():
    """Commands and examples name it; nothing that others are built on does."""
    for name, path in modules().items():
        if not is_of(name, (WORLD, "commands", "config.errors")):
            assert not [other for other in imported(path) if within(other, f"reasonedit.{WORLD}")], name


def graph(parts: int | None = None) -> nx.DiGraph:
    """Which modules import which; or which parts, by the first names of their paths."""
    names, found = modules(), nx.DiGraph()
    for name, path in names.items():
        for other in imported(path):
            ours, _, other = other.partition(".")  # not the standard library's types
            ends = [".".join(one.split(".")[:parts]) for one in (name, other)]
            if ours == "reasonedit" and other in names and ends[0] != ends[1]:
                found.add_edge(*ends)
    return found


@pytest.mark.parametrize("parts", [None, 1], ids=["modules", "packages"])
def test_no_import_goes_in_a_circle(parts):
    found = graph(parts)
    assert found.number_of_edges() > 100
    circles = [sorted(circle) for circle in nx.strongly_connected_components(found) if len(circle) > 1]
    assert not circles, f"a circle of {', '.join(circles[0])}"


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
    assert "lightning" in imported(ROOT / "ranks" / "ending.py")
    assert "transformers" not in imported(ROOT / "vlm" / "frozen.py")  # for type checkers alone
