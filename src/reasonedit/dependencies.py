"""Checksums of the code that something depends on: found from the imports, so that no list has to be kept."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from reasonedit.errors import ReasonEditError

OURS = "reasonedit"

_LIBRARY = tuple(sysconfig.get_path(name) for name in ("stdlib", "platstdlib"))


@dataclass(frozen=True)
class _Import:
    """``from module import name``, or ``import module`` where there is no name."""

    module: str
    name: str | None
    bound: str  # what it is called here
    typing: bool  # for type checkers only


@dataclass(frozen=True)
class _Parsed:
    checksum: str
    imports: tuple[_Import, ...]
    files: tuple[str, ...]  # data files beside it that it names


def code_of(roots: Iterable[ModuleType | type], known: dict[str, str] | None = None) -> dict[str, str]:
    """The modules that classes or modules depend on, each with a checksum.

    Imports are followed wherever they stand, within this package and within code that is not installed (an editor of
    one's own, and what it imports). Of a package only the modules are taken that the names that are imported come from;
    of a package that is a root itself, all. Comments, docstrings and layout do not count.

    Args:
        roots: Classes, with those that they derive from, or modules.
        known: Checksums that were taken before and hold on; those that are taken now are added.

    Raises:
        ReasonEditError: A class is defined in no file.
    """
    named: set[str] = set()
    for root in roots:
        if isinstance(root, ModuleType):
            named.update(_all_of(root))
        else:
            named.update(c.__module__ for c in root.__mro__ if c is root or _counts(c.__module__))
    missing = next((name for name in sorted(named) if _file_of(name) is None), None)
    if missing is not None:
        raise ReasonEditError(
            f"The code of the module '{missing}' is in no file: put it into one that can be imported, so that its "
            "results can be told from those of other code."
        )
    wanted: list[tuple[str, str | None]] = [(name, None) for name in named]
    found: dict[str, str] = {}
    seen: set[tuple[str, str | None]] = set()
    known = known if known is not None else {}
    while wanted:
        module, name = wanted.pop()
        if (module, name) in seen:
            continue
        seen.add((module, name))
        path = _file_of(module)
        if path is None or not (_counts(module) or module in named):
            continue
        parsed = _read(path)
        if name is not None and path.name == "__init__.py":
            if _file_of(f"{module}.{name}") is not None:
                wanted.append((f"{module}.{name}", None))
                continue
            homes = [i for i in parsed.imports if i.bound == name]
            if homes and module not in named:
                wanted += [(i.module, i.name) for i in homes]
                continue
        if module not in found:
            found[module] = known.setdefault(module, parsed.checksum)
            wanted += [(i.module, i.name) for i in parsed.imports if not i.typing]
            for file in parsed.files:
                label = f"{module}:{file}"
                found[label] = known.setdefault(label, _sum((path.parent / file).read_bytes()))
    return dict(sorted(found.items()))


def checksum_of(path: Path) -> str:
    """The checksum of one file of code, by what it says."""
    return _read(path).checksum


def _sum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _all_of(module: ModuleType) -> list[str]:
    """A module, or all modules of a package."""
    if not module.__file__ or Path(module.__file__).name != "__init__.py":
        return [module.__name__]
    folder = Path(module.__file__).parent
    below = (p.stem for p in sorted(folder.glob("*.py")) if p.stem != "__init__")
    return [module.__name__, *(f"{module.__name__}.{name}" for name in below)]


def _counts(module: str) -> bool:
    """Whether a module is ours, or somebody's who does not install it."""
    if module.partition(".")[0] == OURS:
        return True
    path = _file_of(module)
    if path is None or {"site-packages", "dist-packages"} & set(path.parts):
        return False
    return not any(path.is_relative_to(folder) for folder in _LIBRARY)


def _file_of(module: str) -> Path | None:
    """The source of a module; none of what is built in, compiled, or not there."""
    origin = getattr(sys.modules.get(module), "__file__", None) or _found(module)
    return Path(origin) if origin is not None and origin.endswith(".py") and Path(origin).is_file() else None


@cache
def _found(module: str) -> str | None:
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, AttributeError, ValueError):  # a parent that is no package, or cannot be imported
        return None
    return spec.origin if spec is not None else None


def _read(path: Path) -> _Parsed:
    stamp = path.stat()
    return _parsed(path, stamp.st_mtime_ns, stamp.st_size)


@cache
def _parsed(path: Path, _time: int, _size: int) -> _Parsed:
    tree = ast.parse(path.read_bytes())
    module = _module_of(path)
    imports = tuple(_imports(tree, module, package=path.name == "__init__.py"))
    texts = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    files = sorted(t for t in texts if _names_a_file(path.parent, t))
    return _Parsed(_sum(repr(_said(tree)).encode()), imports, tuple(files))


def _module_of(path: Path) -> str:
    """The package that relative imports of a file start from, with the file's own name."""
    names = [] if path.name == "__init__.py" else [path.stem]
    folder = path.parent
    while (folder / "__init__.py").is_file():
        names.insert(0, folder.name)
        folder = folder.parent
    return ".".join(names)


def _names_a_file(folder: Path, text: str) -> bool:
    plain = 0 < len(text) < 100 and text.isprintable() and "/" not in text and "." in text.strip(".")
    return plain and not text.endswith(".py") and (folder / text).is_file()


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


_SILENT = ("ctx", "kind", "type_comment", "lineno", "end_lineno", "col_offset", "end_col_offset")


def _said(node: Any) -> Any:
    """What code says: without where it stands, and without texts that are nothing but documentation.

    Empty fields are left out, as a newer Python has more of them.
    """
    if isinstance(node, ast.AST):
        fields = ((name, _said(value)) for name, value in ast.iter_fields(node) if name not in _SILENT)
        return (type(node).__name__, *((name, value) for name, value in fields if value is not None and value != []))
    if isinstance(node, list):
        return [_said(part) for part in node if not _documents(part)]
    return None if node is None else (type(node).__name__, repr(node))


def _documents(node: Any) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def versions_of(packages: Sequence[str]) -> dict[str, str]:
    """Versions of installed packages; of one that is not, nothing."""
    from importlib import metadata

    found = {}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def code_version(*roots: ModuleType | type) -> str:
    """A name for the code that something was made by, and for the libraries under it.

    Args:
        roots: As for :func:`code_of`.

    Returns:
        A checksum of the code, and the versions of torch and transformers.

    Raises:
        InputError: A class is defined in no file.
    """
    code = code_of(roots)
    digest = hashlib.sha256(repr(sorted(code.items())).encode()).hexdigest()[:16]
    return ", ".join([digest, *(f"{n} {v}" for n, v in versions_of(("torch", "transformers")).items())])
