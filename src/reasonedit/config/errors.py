"""One sentence for a config that cannot be used: which file, or which option, and why."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L

from reasonedit.errors import InputError, ReasonEditError
from reasonedit.former_names import TODAY

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
    return InputError(_explain(str(error), files, overrides))


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
        if wrong in TODAY:
            hint = f" As a setting of the design it is called '{TODAY[wrong]}' now."
        return f"{_culprit(wrong, None, files, overrides)} has a key '{wrong}' that nothing expects.{hint}"
    heads = list(re.finditer(r"""Parser key "([\w.]+)":|Problem with given class_path '([\w.]+)':""", message))
    if not heads:
        lines = [line.strip() for line in message.splitlines() if line.strip()]
        return f"{_culprit('', None, files, overrides)} cannot be used: {' '.join(lines[:2])}"
    key, path = heads[-1].groups()  # of nested messages the innermost says most
    reason, value = _reason(message[heads[-1].end() :])
    where = _culprit((key or "class_path").split(".")[-1], path or value, files, overrides)
    return f"{where} cannot be used: {key or repr(path)}: {reason}"


def _reason(block: str) -> tuple[str, str | None]:
    """What is wrong by one of jsonargparse's messages, and the value that it is about, where it says so."""
    lines = [line.strip(" -") for line in block.splitlines() if line.strip()]
    end = next((i for i, line in enumerate(lines) if line.startswith("Given value: ")), None)
    value = lines[end].partition(": ")[2] if end is not None else None
    lines = lines[:end]
    if not lines[0].startswith(("Does not validate", "Expected a path but")):
        return lines[0], lines[0].partition("Got value: ")[2] or value
    lines = lines[lines.index("Errors:") + 1 :] if "Errors:" in lines else lines
    kinds = [line for line in lines if line.startswith("Expected a ") and "NoneType" not in line]
    reason = " or ".join([*kinds[:1], *(kind.removeprefix("Expected ") for kind in kinds[1:])]) or lines[0]
    return (reason if value is None or value in reason else f"{reason}. Got value: {value}"), value


def _culprit(name: str, value: str | None, files: Files, overrides: Sequence[str]) -> str:
    """The file or option that sets a key, or sets it to a value; all of them where it is not known which."""
    sources: list[tuple[str, list[tuple[str, Any]]]]
    sources = [(f"The config '{path}'", list(_settings_in(values))) for path, values in files]
    for option, words in group_options(overrides):
        text = " ".join(words).removeprefix(f"--{option}").lstrip("= ")
        sources.append((f"The option '--{option}'", [(part, text) for part in option.split(".")]))
    setting = [source for source in sources if any(key == name for key, _ in source[1])]
    exact = [source for source in setting if any(key == name and str(given) == value for key, given in source[1])]
    candidates = exact or setting or sources[: len(files)] or [("The config", [])]
    first, *others = (label for label, _ in candidates)
    return " or ".join([first, *(f"{label[0].lower()}{label[1:]}" for label in others)])


def _settings_in(values: Any) -> Iterator[tuple[str, Any]]:
    """All keys of a config, however deep, each with its value."""
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield str(key), value
            yield from _settings_in(value)
    elif isinstance(values, (list, tuple)):
        for value in values:
            yield from _settings_in(value)


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
