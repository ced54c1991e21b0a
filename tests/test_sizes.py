"""Small files with one job each: what a reader can take in at once."""

import ast
import statistics
from pathlib import Path

import pytest

import reasonedit

ROOT = Path(reasonedit.__file__).parent
FILES = sorted({*ROOT.rglob("*.py"), *(ROOT / "callbacks").rglob("*.py")})  # a link is not followed
MOST_LINES, MEDIAN, LONGEST_FUNCTION = 400, 130, 60


def test_files_are_small():
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert len(lines) > 250
    longest = max(lines, key=lines.__getitem__)
    assert lines[longest] <= MOST_LINES, longest
    assert statistics.median(lines.values()) <= MEDIAN


@pytest.mark.parametrize("part", sorted({path.relative_to(ROOT).parts[0] for path in FILES}))
def test_functions_are_short(part):
    for path in (path for path in FILES if path.relative_to(ROOT).parts[0] == part):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                length = (node.end_lineno or 0) - node.lineno + 1
                assert length <= LONGEST_FUNCTION, f"{path}: {node.name} has {length} lines"
