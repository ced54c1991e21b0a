"""What ``reasonedit serve`` and ``reasonedit app`` do: serve a VLM with a codebook."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reasonedit.calibration import Calibration
from reasonedit.codebook import Store, check_place
from reasonedit.design import Design
from reasonedit.editor import ReasonEditor
from reasonedit.errors import InputError, NotFoundError, needed
from reasonedit.traces import KeptQuestions, folder_of_questions
from reasonedit.vlm import Generation, load_vlm
from reasonedit.vlm.endpoint.names import is_endpoint

from .generation import SERVED_TOKENS, generation_from
from .screen import Screen, waiting

if TYPE_CHECKING:
    from reasonedit.serve.settings import Settings, Upstream

_console = Screen(highlight=False, soft_wrap=True, stderr=True)


def run(arguments: argparse.Namespace, show: Callable[[str], None] = lambda url: None) -> int:
    """Serve until it is asked to end.

    Args:
        arguments: As :func:`reasonedit.commands.serve.parser` reads them.
        show: Told the server's URL once it listens.
    """
    for module in ("fastapi", "uvicorn", "prometheus_client", "httpx2"):
        needed(module, "serve")
    from reasonedit.serve.app import create_app
    from reasonedit.serve.run import run_server
    from reasonedit.serve.settings import Settings

    Settings("", **_bounds(arguments))  # refuse them before a model is loaded
    generation = _generation(arguments)
    with waiting("loading the VLM"):
        editors = open_editors(arguments, generation)
    settings = settings_from(arguments, editors[0])
    app = create_app(editors, settings, questions_from(arguments))

    def ready(url: str) -> None:
        _console.say(f"{settings.model} with {len(editors[0].edits)} edits: {url}/v1")
        show(url)

    run_server(app, arguments.host, arguments.port, ready)
    return 0


def _generation(arguments: argparse.Namespace) -> Generation:
    """How answers are made where a request does not say."""
    given = generation_from(arguments)
    return given if arguments.max_new_tokens is not None else given.but(SERVED_TOKENS)


def open_editors(arguments: argparse.Namespace, generation: Generation) -> list[ReasonEditor]:
    """An editor for each device, all on the same folder, which is made where it is not there and may be written.

    Raises:
        NotFoundError: There is no codebook, and none is to be made.
        ReasonEditError: The model or the codebook cannot be loaded, or they are not made for each other.
    """
    folder: Path = arguments.codebook
    devices: list[str | None] = arguments.devices or [None]
    how: dict[str, Any] = {"generation": generation, "read_only": arguments.read_only}
    if Store.exists(folder):
        for name in ("design", "calibration"):
            if getattr(arguments, name) is not None:
                raise InputError(f"The codebook '{folder}' has its {name} already: leave --{name} out.")
        model = arguments.model or Store.open(folder).manifest.model
        first = ReasonEditor.load(folder, _load(model, arguments, devices[0]), **how)
    elif arguments.read_only:
        raise NotFoundError(
            f"There is no codebook in '{folder}', and --read-only makes none: name the folder of one, or leave "
            "--read-only out."
        )
    else:
        check_place(folder)
        model = arguments.model or "embedded"
        design = Design.load(arguments.design, Design.default(model)) if arguments.design else None
        calibration = Calibration.load(arguments.calibration) if arguments.calibration else None
        first = ReasonEditor(_load(model, arguments, devices[0]), design, generation, calibration)
        first.save(folder)
    others = [ReasonEditor.load(folder, _load(model, arguments, device), **how) for device in devices[1:]]
    return [first, *others]


def _load(model: str, arguments: argparse.Namespace, device: str | None) -> Any:
    """Load the model.

    Raises:
        InputError: An option would have no effect on it.
        ReasonEditError: It cannot be loaded.
    """
    if is_endpoint(model):
        if device is not None or arguments.dtype != "auto":
            raise InputError(f"'{model}' is served elsewhere: leave --devices and --dtype out.")
        return load_vlm(model, **({"base_url": arguments.base_url} if arguments.base_url else {}))
    for name in ("base_url", "upstream_timeout"):
        if getattr(arguments, name) is not None:
            option = f"--{name.replace('_', '-')}"
            raise InputError(f"{option} is for openai:MODEL, and '{model}' is loaded here: leave {option} out.")
    options: dict[str, Any] = {"dtype": arguments.dtype, "place": device is None}
    if device is not None:
        options["device_map"] = {"": device}
    return load_vlm(model, trust_remote_code=arguments.trust_remote_code, **options)


def settings_from(arguments: argparse.Namespace, editor: ReasonEditor) -> Settings:
    """What the server is set to do."""
    from reasonedit.serve.settings import LOOPBACK, Settings

    upstream = _upstream(arguments, editor)
    model = upstream.model if upstream is not None else editor.vlm.name
    on_loopback = arguments.host in LOOPBACK
    key = arguments.api_key if arguments.api_key is not None else os.environ.get("REASONEDIT_API_KEY", "")
    may = "ask" if arguments.read_only else "ask and edit"
    notes = [] if key or on_loopback else [f"Anybody who reaches this server may {may}: it has no key."]
    if editor.vlm.name == "embedded":
        notes.append("The embedded model knows drawings like the samples. It knows no photographs.")
    return Settings(
        model=arguments.name or (Path(model).name if Path(model).is_dir() else model),
        codebook=arguments.codebook.name,
        api_key=key,
        hosts=LOOPBACK if on_loopback else (),
        image_urls=arguments.allow_image_urls,
        read_only=arguments.read_only,
        log_texts=arguments.log_texts,
        upstream=upstream,
        notes=tuple(notes),
        **_bounds(arguments),
    )


def _bounds(arguments: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(arguments, name) for name in ("body_mb", "pixels", "at_once")}


def _upstream(arguments: argparse.Namespace, editor: ReasonEditor) -> Upstream | None:
    """The server behind, where the model is not here."""
    from reasonedit.serve.settings import Upstream
    from reasonedit.vlm.endpoint.model import EndpointVLM

    if not isinstance(editor.vlm, EndpointVLM):
        return None
    connection = editor.vlm.connection
    key = os.environ.get("OPENAI_API_KEY", "")
    patience = {} if arguments.upstream_timeout is None else {"patience": arguments.upstream_timeout}
    return Upstream(connection.address, connection.settings.model, key, **patience)


def questions_from(arguments: argparse.Namespace) -> KeptQuestions | None:
    """Where questions are kept, if they are."""
    if arguments.keep_questions < 0:
        raise InputError(f"--keep-questions must be 0 or more, not {arguments.keep_questions}.")
    if not arguments.keep_questions:
        return None
    return KeptQuestions(folder_of_questions(arguments.codebook), arguments.keep_questions)
