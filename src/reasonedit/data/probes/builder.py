"""What builders of probes share: counted calls of a writer and a painter, and the draft that they make."""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image

from reasonedit.errors import InputError
from reasonedit.groups import GENERALITIES
from reasonedit.types import Edit
from reasonedit.vlm import VLM

from .checks import Rejected
from .painter import Painter
from .writer import Writer


class Spent(Exception):  # noqa: N818 - it is no error
    """No further call is allowed."""


@dataclass
class Budget:
    """How many calls of writer and painter are allowed, and how many were made.

    Attributes:
        limit: The most; any number when not given.
        calls: How many were made.
    """

    limit: int | None = None
    calls: int = 0

    def take(self) -> None:
        """Count a call.

        Raises:
            Spent: It is one too many.
        """
        if self.limit is not None and self.calls >= self.limit:
            raise Spent
        self.calls += 1


@dataclass
class ProbeDraft:
    """A probe before it is written.

    Attributes:
        question: What is asked.
        answer: What is right.
        choices: The choices, if there are any.
        image: A new image; the edit's own when not given.
    """

    question: str
    answer: str
    choices: list[str] | None
    image: Image.Image | None = None


class Builder(ABC):
    """Makes the probes of one group. A class in a file of this package is found by its group.

    Args:
        vlm: The unedited model.
        writer: What writes, where there is one.
        painter: What paints, where there is one.
        budget: How often these two may be called.

    Attributes:
        group: The group.
        needs_writer: Whether one call of a writer is made for each try.
        needs_painter: Whether one call of a painter is made for each try.
        may_paint: Whether such a call is made only where there is a painter.
        about_errors: Whether its probes are about the errors of one VLM, whose name is in their provenance as ``vlm``.
    """

    group: ClassVar[str]
    needs_writer: ClassVar[bool] = False
    needs_painter: ClassVar[bool] = False
    may_paint: ClassVar[bool] = False
    about_errors: ClassVar[bool] = False

    def __init__(self, vlm: VLM | None, writer: Writer | None, painter: Painter | None, budget: Budget) -> None:
        self._vlm, self._writer, self._painter, self._budget = vlm, writer, painter, budget

    @classmethod
    def calls(cls, *, with_painter: bool) -> int:
        """Calls of writer and painter that one try takes.

        Args:
            with_painter: Whether there is a painter.
        """
        return cls.needs_writer + (cls.needs_painter or (cls.may_paint and with_painter))

    @property
    def vlm(self) -> VLM:
        """The unedited model.

        Raises:
            InputError: There is none.
        """
        if self._vlm is None:
            raise InputError(f"{self.group} needs the unedited model: give the builder one.")
        return self._vlm

    @abstractmethod
    def make(self, edit: Edit, number: int, seed: int, made_by: dict[str, Any]) -> ProbeDraft:
        """Make one probe.

        Args:
            edit: The edit that it asks about.
            number: Which one of the edit's.
            seed: Of all that is drawn.
            made_by: Provenance, to which it adds.

        Raises:
            Rejected: What was made cannot be a probe.
        """

    def write(self, prompt: str, seed: int, made_by: dict[str, Any], max_tokens: int = 128) -> str:
        """The writer's reply; it is counted, and added to the provenance.

        Raises:
            InputError: There is no writer.
            Spent: No further call is allowed.
        """
        if self._writer is None:
            raise InputError(f"{self.group} needs a language model: name one with --writer.")
        self._budget.take()
        made_by |= {"writer": self._writer.name, "prompt": prompt}
        made_by["reply"] = self._writer.write(prompt, seed, max_tokens)
        return str(made_by["reply"])

    def paint(self, scene: str, seed: int, made_by: dict[str, Any]) -> Image.Image:
        """The painter's picture; it is counted, and added to the provenance.

        Raises:
            InputError: There is no painter.
            Spent: No further call is allowed.
            Rejected: The picture shows nothing.
        """
        if self._painter is None:
            raise InputError(f"{self.group} needs a text-to-image pipeline: name one with --painter.")
        self._budget.take()
        made_by |= {"painter": self._painter.name, "scene": scene}
        image = self._painter.paint(scene, seed)
        if image is None:
            raise Rejected("the picture shows nothing")
        return image


def builders() -> dict[str, type[Builder]]:
    """The builder of each group that has one, in the order of the groups."""
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):  # a builder is known once its file is imported
        importlib.import_module(f"{__package__}.{module.name}")
    by_group = {kind.group: kind for kind in Builder.__subclasses__()}
    return {group: by_group[group] for group in GENERALITIES if group in by_group}
