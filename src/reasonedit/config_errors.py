"""One sentence for a config that cannot be used: which file, or which option, and why."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L

from reasonedit.errors import ReasonEditError

Files = Sequence[tuple[Path, Mapping[str, Any]]]
"""Config files, each with what it says."""


def explain_refusal(error: BaseException, files: Files = (), overrides: Sequence[str] = ()) -> ReasonEditError:
    """What a user is told of a config that cannot be used.

    Args:
        error: What was raised. A message of our own classes that caused it is passed on as it is.
        files: The config files.
        overrides: What the command line sets over them.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ReasonEditError):
            return cause
        cause = cause.__cause__ or cause.__context__
    return ReasonEditError(_explain(str(error), files, overrides))


def group_options(words: Sequence[str]) -> list[tuple[str, list[str]]]:
    """The words of a command line by option: its name without dashes, and all of its words."""
    options: list[tuple[str, list[str]]] = []
    for word in words:
        if word.startswith("--") or not options:
            options.append((word.lstrip("-").split("=")[0], []))
        options[-1][1].append(word)
    return options


def _explain(message: str, files: Files, overrides: Sequence[str]) -> str:
    """One sentence from jsonargparse's message; for a misspelt key, the nearest one that exists."""
    unknown = re.search(r"[Oo]ption '([\w.]+)'|[Kk]ey '([\w.]+)' is not|unrecognized arguments: --([\w.]+)", message)
    if unknown is not None:
        name, known = next(filter(None, unknown.groups())), _known_keys()
        wrong = next((part for part in name.split(".") if part not in known), name)
        near = [] if wrong in known else difflib.get_close_matches(wrong, known, n=1)  # known, but not there
        hint = f" Did you mean '{near[0]}'?" if near else ""
        return f"{_culprit(wrong, files, overrides)} has a key '{wrong}' that nothing expects.{hint}"
    # Of nested messages the innermost says most.
    reasons = re.findall(r'Parser key "([\w.]+)":\s+((?:Expected|Invalid|Problem)[^\n]*)', message)
    reasons += re.findall(r"Problem with given class_path ('[\w.]+'):\s+([^\n]*)", message)
    reasons = [(what, why) for what, why in reasons if not why.startswith(("Parser key", "Problem"))]
    if reasons:
        what, why = reasons[-1]
        return f"{_culprit(what, files, overrides)} cannot be used: {what}: {why}"
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return f"{_culprit('', files, overrides)} cannot be used: {' '.join(lines[:2])}"


def _culprit(name: str, files: Files, overrides: Sequence[str]) -> str:
    """The file or option that has a key or a class path; all files where none or several have it."""
    last = name.strip("'").split(".")[-1] if not name.startswith("'") else name.strip("'")
    having = [f"The config '{path}'" for path, values in files if last in _names_in(values)]
    having += [f"The option '--{option}'" for option, words in group_options(overrides) if _names(option, words, last)]
    every = [f"The config '{path}'" for path, _ in files] or ["The config"]
    first, *others = having or every
    return " or ".join([first, *(f"{other[0].lower()}{other[1:]}" for other in others)])


def _names(option: str, words: Sequence[str], name: str) -> bool:
    return name in option.split(".") or any(name == value.split("=")[-1] for value in words)


def _names_in(values: Any) -> Iterator[str]:
    """All keys of a config, however deep, and the class paths."""
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield str(key)
            if key == "class_path":
                yield str(value)
            yield from _names_in(value)
    elif isinstance(values, (list, tuple)):
        for value in values:
            yield from _names_in(value)


def _known_keys() -> list[str]:
    import reasonedit.callbacks as cb
    from reasonedit.data import AOKVQA, FVQA, EditFile, Pool, RationaleVQA
    from reasonedit.data.stream import EditStream
    from reasonedit.data.world.benchmark import EmbeddedWorld
    from reasonedit.design import Design, WritingConfig
    from reasonedit.embedding import EmbeddingConfig
    from reasonedit.evidence import EvidenceConfig
    from reasonedit.module import VLMModule
    from reasonedit.retrieval import RetrievalConfig

    parts: list[Any] = [L.Trainer, VLMModule, EditStream, EmbeddedWorld, Pool, EditFile, AOKVQA, FVQA, RationaleVQA]
    parts += [Design, EmbeddingConfig, EvidenceConfig, WritingConfig, RetrievalConfig]
    parts += [part for part in map(cb.__dict__.get, cb.__all__) if inspect.isclass(part)]
    keys = {key for part in parts for key in inspect.signature(part).parameters}
    return sorted(keys | {"model", "data", "trainer", "seed_everything", "class_path", "init_args"})
