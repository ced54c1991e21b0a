"""Config files: where they are, and what is made of them."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning as L
import torch

import reasonedit.callbacks as cb
from reasonedit.boundedyaml import bounded_yaml
from reasonedit.data.stream import EditStream
from reasonedit.errors import ReasonEditError
from reasonedit.module import VLMModule
from reasonedit.regular import content

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser


MOST_CONFIG = 1 << 20
"""Bytes of a config file; those that come with the package have two thousand."""

_CODE = ("trust_remote_code", "allow_all_kernels")
"""Arguments of transformers by which a model brings code that is run."""


def packaged_configs() -> Path:
    """The folder of the YAML files that come with the package."""
    import reasonedit.configs

    return Path(str(reasonedit.configs.__path__[0]))


def config_path(name: str) -> Path:
    """A YAML file, by path or by the name of a packaged one.

    Raises:
        ReasonEditError: There is none.
    """
    packaged = packaged_configs()
    if Path(name).exists():
        return Path(name)
    if Path(name).parent == Path("configs") and (packaged / Path(name).name).is_file():
        return packaged / Path(name).name
    known = ", ".join(sorted(f"configs/{p.name}" for p in packaged.glob("*.yaml")))
    raise ReasonEditError(f"There is no config file '{name}'. The packaged ones are: {known}.")


def content_of(config: str, *, trusted: bool = False) -> dict[str, Any]:
    """What a config file says.

    Args:
        config: The file; see :func:`config_path`.
        trusted: Whether it may ask for code that comes with a model; see :func:`refuse_code`.

    Raises:
        ReasonEditError: There is none, it is no YAML or without bounds, or it asks for such code.
    """
    path = config_path(config)
    try:
        said = bounded_yaml(content(path, MOST_CONFIG, f"The config '{path}'").decode()) or {}
    except ReasonEditError:
        raise
    except UnicodeDecodeError as error:
        raise ReasonEditError(f"The config '{path}' is not UTF-8: save it as UTF-8.") from error
    except (OSError, ValueError) as error:
        raise refused(path, error) from error
    if not isinstance(said, dict):
        raise ReasonEditError(f"The config '{path}' is no mapping of 'model', 'data' and so on.")
    other = next((said[name] for name in ("model", "data") if isinstance(said.get(name), str)), "")
    if Path(other).is_file():  # which would be read unseen
        raise ReasonEditError(f"The config '{path}' names another file, '{other}', in its place: write it out.")
    refuse_code(said, trusted=trusted)
    return said


def refuse_code(said: Any, *, trusted: bool) -> None:
    """Refuse a config that asks for code which comes with a model, unless whoever gave the command trusts it.

    Raises:
        ReasonEditError: It does.
    """
    name = None if trusted else _asks_for_code(said)
    if name is not None:
        raise ReasonEditError(
            f"The config sets '{name}', which runs code that comes with a model: read that code, and then say so on "
            "the command line by --trust-remote-code."
        )


def _asks_for_code(said: Any) -> str | None:
    said = said.as_dict() if hasattr(said, "as_dict") else said
    if isinstance(said, Mapping):
        asked = next((name for name in _CODE if said.get(name) not in (None, False)), None)
        return asked or next(filter(None, map(_asks_for_code, said.values())), None)
    return next(filter(None, map(_asks_for_code, said)), None) if isinstance(said, (list, tuple)) else None


def made_of(content: Mapping[str, Any], *names: str, path: str | Path = "") -> dict[str, Any]:
    """The named parts of a config (``model``, ``data``), made without the rest of it.

    Args:
        content: What the config says.
        names: The parts.
        path: Where it was read, for messages.

    Raises:
        ReasonEditError: It cannot be used.
    """
    parser = _parser(*names)
    try:
        made = parser.instantiate_classes(parser.parse_object(_given(content, *names)))
    except (argparse.ArgumentError, ValueError, TypeError, KeyError) as error:
        raise refused(Path(path), error) from error
    return {name: made[name] for name in names}


def resolved(content: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """The named parts of a config as it will be used: whole class paths, and all arguments, those by default too.

    Raises:
        ReasonEditError: It cannot be used.
    """
    try:
        return dict(_parser(*names).parse_object(_given(content, *names)).as_dict())
    except (argparse.ArgumentError, ValueError, TypeError, KeyError) as error:
        raise refused(Path(), error) from error


def _parser(*names: str) -> ArgumentParser:
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    kinds = {"model": L.LightningModule, "data": L.LightningDataModule}
    for name in names:
        parser.add_subclass_arguments(kinds[name], name, required=True)
    return parser


def _given(content: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: content[name] for name in names if name in content}


def parts_of(config: str, *names: str, trusted: bool = False) -> dict[str, Any]:
    """The named parts of a config file; see :func:`content_of` and :func:`made_of`."""
    return made_of(content_of(config, trusted=trusted), *names, path=config_path(config))


def module_and_stream(config: str, *, trusted: bool = False) -> tuple[VLMModule, EditStream]:
    """The model of a config, on the GPU where there is one, and its stream; arguments as for :func:`content_of`.

    Raises:
        ReasonEditError: The file cannot be used, or it has no VLM or no stream.
    """
    parts = parts_of(config, "model", "data", trusted=trusted)
    module, stream = parts["model"], parts["data"]
    if not isinstance(module, VLMModule) or not isinstance(stream, EditStream):
        raise ReasonEditError(
            f"The config '{config}' must have a VLMModule as its model and an EditStream as its data."
        )
    if torch.cuda.is_available() and module.vlm.movable:
        module.to("cuda")
    return module, stream


def refused(path: Path, error: BaseException) -> ReasonEditError:
    """What a user is told of a config that cannot be used: our own message, where one of our classes refused it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ReasonEditError):
            return cause
        cause = cause.__cause__ or cause.__context__
    return ReasonEditError(_explain(path, str(error)))


def _explain(path: Path, message: str) -> str:
    """One sentence from jsonargparse's message; for a misspelt key, the nearest one that exists."""
    unknown = re.search(r"[Oo]ption '([\w.]+)'|[Kk]ey '([\w.]+)' is not", message)
    if unknown is not None:
        name, known = unknown.group(1) or unknown.group(2), _known_keys()
        wrong = next((part for part in name.split(".") if part not in known), name)
        near = [] if wrong in known else difflib.get_close_matches(wrong, known, n=1)  # known, but not there
        hint = f" Did you mean '{near[0]}'?" if near else ""
        return f"The config '{path}' has a key '{wrong}' that nothing expects.{hint}"
    # Of nested messages the innermost says most.
    reasons = re.findall(r'Parser key "([\w.]+)":\s+((?:Expected|Invalid|Problem)[^\n]*)', message)
    reasons += re.findall(r"Problem with given class_path ('[\w.]+'):\s+([^\n]*)", message)
    reasons = [(what, why) for what, why in reasons if not why.startswith(("Parser key", "Problem"))]
    if reasons:
        what, why = reasons[-1]
        return f"The config '{path}' cannot be used: {what}: {why}"
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return f"The config '{path}' cannot be used: {' '.join(lines[:2])}"


def _known_keys() -> list[str]:
    import inspect

    from reasonedit.data import AOKVQA, FVQA, EditFile, Pool, RationaleVQA
    from reasonedit.data.world.benchmark import EmbeddedWorld
    from reasonedit.design import Design, WritingConfig
    from reasonedit.embedding import EmbeddingConfig
    from reasonedit.evidence import EvidenceConfig
    from reasonedit.module import VLMModule
    from reasonedit.retrieval import RetrievalConfig

    parts: list[Any] = [L.Trainer, VLMModule, EditStream, EmbeddedWorld, Pool, EditFile, AOKVQA, FVQA, RationaleVQA]
    parts += [Design, EmbeddingConfig, EvidenceConfig, WritingConfig, RetrievalConfig]
    parts += [getattr(cb, name) for name in cb.__all__ if name != "beside"]
    keys = {key for part in parts for key in inspect.signature(part).parameters}
    return sorted(keys | {"model", "data", "trainer", "seed_everything", "class_path", "init_args"})
