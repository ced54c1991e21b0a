"""Checksums of the code that something depends on, found by its imports: there is no list to maintain."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
import sysconfig
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from reasonedit.errors import InputError

OURS = "reasonedit"
_UNDER_IT = ("torch", "transformers", "tokenizers", "pillow")
"""Libraries that what comes of a model depends on."""

_LIBRARY = tuple(sysconfig.get_path(name) for name in ("stdlib", "platstdlib"))


@dataclass(frozen=True)
class _Import:
    """``from module import name``, or ``import module`` where there is no name."""

    module: str
    name: str | None
    bound: str  # its name in the file that imports it
    typing: bool  # for type checkers only


@dataclass(frozen=True)
class _Source:
    checksum: str
    imports: tuple[_Import, ...]
    files: tuple[str, ...]  # data files next to it that it names


def code_of(roots: Iterable[ModuleType | type], known: dict[str, str] | None = None) -> dict[str, str]:
    """The modules that classes or modules depend on, each with a checksum.

    Imports are followed wherever they stand, within this package and within code that is not installed (a user's own
    editor, and what it imports). Of an imported package only the modules count from which the imported names come; of a
    package that is a root itself, all modules count. Comments, docstrings and layout do not.

    Args:
        roots: Modules, or classes, which count with their base classes.
        known: Checksums that were taken before and still hold; new ones are added.

    Raises:
        InputError: A class is defined in no file.
    """
    root_modules: set[str] = set()
    for root in roots:
        if isinstance(root, ModuleType):
            root_modules.update(_modules_of(root))
        else:
            root_modules.update(c.__module__ for c in root.__mro__ if c is root or _counts(c.__module__))
    missing = next((name for name in sorted(root_modules) if _file_of(name) is None), None)
    if missing is not None:
        raise InputError(
            f"The code of the module '{missing}' is in no file: put it into one that can be imported, so that its "
            "results can be told from those of other code."
        )
    to_visit: list[tuple[str, str | None]] = [(name, None) for name in root_modules]
    visited: set[tuple[str, str | None]] = set()
    checksums: dict[str, str] = {}
    known = known if known is not None else {}
    while to_visit:
        module, name = to_visit.pop()
        if (module, name) in visited:
            continue
        visited.add((module, name))
        path = _file_of(module)
        if path is None or not (_counts(module) or module in root_modules):
            continue
        source = _read(path)
        if name is not None and path.name == "__init__.py":
            if _file_of(f"{module}.{name}") is not None:
                to_visit.append((f"{module}.{name}", None))
                continue
            origins = [i for i in source.imports if i.bound == name]
            if origins and module not in root_modules:
                to_visit += [(i.module, i.name) for i in origins]
                continue
        if module not in checksums:
            checksums[module] = known.setdefault(module, source.checksum)
            to_visit += [(i.module, i.name) for i in source.imports if not i.typing]
            for file in source.files:
                label = f"{module}:{file}"
                checksums[label] = known.setdefault(label, _sum((path.parent / file).read_bytes()))
    return dict(sorted(checksums.items()))


def checksum_of(path: Path) -> str:
    """The checksum of one file of code, without comments, docstrings and layout."""
    return _read(path).checksum


def _sum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _modules_of(module: ModuleType) -> list[str]:
    """A module, or all modules of a package."""
    if not module.__file__ or Path(module.__file__).name != "__init__.py":
        return [module.__name__]
    folder = Path(module.__file__).parent
    below = (p.stem for p in sorted(folder.glob("*.py")) if p.stem != "__init__")
    return [module.__name__, *(f"{module.__name__}.{name}" for name in below)]


def _counts(module: str) -> bool:
    """Whether a module is ours, or is not installed: a user's own."""
    if module.partition(".")[0] == OURS:
        return True
    path = _file_of(module)
    if path is None or {"site-packages", "dist-packages"} & set(path.parts):
        return False
    return not any(path.is_relative_to(folder) for folder in _LIBRARY)


def _file_of(module: str) -> Path | None:
    """The source file of a module; ``None`` for one that is built in, compiled, or missing."""
    origin = getattr(sys.modules.get(module), "__file__", None) or _origin_of(module)
    return Path(origin) if origin is not None and origin.endswith(".py") and Path(origin).is_file() else None


@cache
def _origin_of(module: str) -> str | None:
    try:
        with warnings.catch_warnings():  # nothing is imported: a name that a library gives up is only looked for
            warnings.simplefilter("ignore")
            spec = importlib.util.find_spec(module)
    except (ImportError, AttributeError, ValueError):  # its parent is no package, or cannot be imported
        return None
    return spec.origin if spec is not None else None


def _read(path: Path) -> _Source:
    stamp = path.stat()
    return _parse(path, stamp.st_mtime_ns, stamp.st_size)


@cache
def _parse(path: Path, _time: int, _size: int) -> _Source:
    tree = ast.parse(path.read_bytes())
    module = _module_of(path)
    imports = tuple(_imports(tree, module, package=path.name == "__init__.py"))
    strings = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    files = sorted(t for t in strings if _names_a_file(path.parent, t))
    return _Source(_sum(repr(_meaning_of(tree)).encode()), imports, tuple(files))


def _module_of(path: Path) -> str:
    """The name of the module in a file: relative imports start from it."""
    names = [] if path.name == "__init__.py" else [path.stem]
    folder = path.parent
    while (folder / "__init__.py").is_file():
        names.insert(0, folder.name)
        folder = folder.parent
    return ".".join(names)


def _names_a_file(folder: Path, text: str) -> bool:
    could_be_name = 0 < len(text) < 100 and text.isprintable() and "/" not in text and "." in text.strip(".")
    return could_be_name and not text.endswith(".py") and (folder / text).is_file()


def _imports(tree: ast.Module, module: str, *, package: bool) -> Iterator[_Import]:
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for part in node.body
        for inner in ast.walk(part)
    }
    for node in ast.walk(tree):
        typing = id(node) in for_types
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield _Import(alias.name, None, alias.asname or alias.name.partition(".")[0], typing)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                parents = parts[: len(parts) - node.level + package]
                base = ".".join([*parents, *([node.module] if node.module else [])])
            for alias in node.names:
                name = None if alias.name == "*" else alias.name
                yield _Import(base, name, alias.asname or alias.name, typing)


_WITHOUT_MEANING = ("ctx", "kind", "type_comment", "lineno", "end_lineno", "col_offset", "end_col_offset")


def _meaning_of(node: Any) -> Any:
    """What code means: without positions and documentation, and without empty fields, which a newer Python adds."""
    if isinstance(node, ast.AST):
        fields = ((name, _meaning_of(value)) for name, value in ast.iter_fields(node) if name not in _WITHOUT_MEANING)
        return (type(node).__name__, *((name, value) for name, value in fields if value is not None and value != []))
    if isinstance(node, list):
        return [_meaning_of(part) for part in node if not _is_documentation(part)]
    return None if node is None else (type(node).__name__, repr(node))


def _is_documentation(node: Any) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def versions_of(packages: Sequence[str]) -> dict[str, str]:
    """Versions of packages, by name; those that are not installed are left out."""
    from importlib import metadata

    versions = {}
    for name in packages:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def code_version(*roots: ModuleType | type) -> str:
    """A name for the code that something was made by, and for the libraries under it.

    Args:
        roots: As for :func:`code_of`.

    Returns:
        A checksum of the code, and the versions of these.

    Raises:
        InputError: A class is defined in no file.
    """
    code = code_of(roots)
    digest = hashlib.sha256(repr(sorted(code.items())).encode()).hexdigest()[:16]
    return ", ".join([digest, *(f"{n} {v}" for n, v in versions_of(_UNDER_IT).items())])
