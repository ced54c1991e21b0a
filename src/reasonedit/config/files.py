"""The files of configs: where they are, and what one of them says, within bounds and without code of others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reasonedit.config.errors import explain_refusal
from reasonedit.errors import InputError, NotFoundError, ReasonEditError
from reasonedit.util.boundedyaml import bounded_yaml
from reasonedit.util.regular import read_file

MOST_CONFIG = 1 << 20
"""Bytes of a config file; those that come with the package have two thousand."""

_CODE = ("trust_remote_code", "allow_all_kernels")
"""Arguments of transformers by which a model brings code that is run."""
_PARTS = ("model", "data")


def packaged_configs() -> Path:
    """The folder of the YAML files that come with the package."""
    import reasonedit.configs

    return Path(str(reasonedit.configs.__path__[0]))


def config_path(name: str) -> Path:
    """A YAML file, by path or by the name of a packaged one.

    Raises:
        NotFoundError: There is none.
    """
    packaged = packaged_configs()
    if Path(name).exists():
        return Path(name)
    if Path(name).parent == Path("configs") and (packaged / Path(name).name).is_file():
        return packaged / Path(name).name
    known = ", ".join(sorted(f"configs/{p.name}" for p in packaged.glob("*.yaml")))
    raise NotFoundError(f"There is no config file '{name}'. The packaged ones are: {known}.")


def read_config(name: str, *, trusted: bool = False) -> dict[str, Any]:
    """What one config file says.

    Args:
        name: The file; see :func:`config_path`.
        trusted: Whether it may ask for code that comes with a model; see :func:`refuse_code`.

    Raises:
        ReasonEditError: There is none, it is no YAML or too large, or it asks for such code.
    """
    path = config_path(name)
    try:
        values = bounded_yaml(read_file(path, MOST_CONFIG, f"The config '{path}'").decode()) or {}
    except ReasonEditError:
        raise
    except UnicodeDecodeError as error:
        raise InputError(f"The config '{path}' is not UTF-8: save it as UTF-8.") from error
    except (OSError, ValueError) as error:
        raise explain_refusal(error, [(path, {})]) from error
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise InputError(f"The config '{path}' is not a mapping of 'model', 'data' and so on.")
    # A file that is named within would be read without the checks above.
    named = [name for name in _PARTS if isinstance(values.get(name), str) and _is_file(values[name])]
    if "config" in values or named:
        raise InputError(
            f"The config '{path}' names another file by '{[*named, 'config'][0]}': name that file with a --config of "
            "its own, or write out what it says."
        )
    refuse_code(values, trusted=trusted)
    return values


def _is_file(name: str) -> bool:
    try:
        return Path(name).is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False


def refuse_code(values: Any, *, trusted: bool) -> None:
    """Refuse a config that asks for code which comes with a model, unless whoever gave the command trusts it.

    Raises:
        ReasonEditError: It asks for code.
    """
    name = None if trusted else _asks_for_code(values)
    if name is not None:
        raise InputError(
            f"The config sets '{name}', which runs code that comes with a model: read that code, and then say so on "
            "the command line with --trust-remote-code."
        )


def _asks_for_code(values: Any) -> str | None:
    values = values.as_dict() if hasattr(values, "as_dict") else values
    if isinstance(values, Mapping):
        asked = next((name for name in _CODE if values.get(name) not in (None, False)), None)
        return asked or next(filter(None, map(_asks_for_code, values.values())), None)
    return next(filter(None, map(_asks_for_code, values)), None) if isinstance(values, (list, tuple)) else None
