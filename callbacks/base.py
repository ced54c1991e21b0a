"""What all callbacks here share: how they may be launched, and in which functions of the trainer they work."""

from __future__ import annotations

import logging
import weakref
from typing import Any, ClassVar, SupportsIndex

import lightning as L
from lightning.pytorch.trainer.states import TrainerFn, TrainerStatus

from reasonedit.errors import ConflictError, InputError
from reasonedit.ranks import refuse_spawning, spawning_error

from .batch import TEXTS, answers_of

_log = logging.getLogger(__name__)


def refuse_other_package(trainer: L.Trainer, callback: L.Callback) -> None:
    """Refuse a trainer of ``pytorch_lightning`` for a callback that needs the loggers or the bars of ``lightning``.

    Raises:
        InputError: It is one.
    """
    if any(kind.__module__.partition(".")[0] == "pytorch_lightning" for kind in type(trainer).__mro__):
        raise InputError(
            f"The trainer is one of pytorch_lightning, and {type(callback).__name__} needs one of lightning: leave it "
            "out, or write 'import lightning.pytorch as pl' in place of 'import pytorch_lightning as pl'."
        )


class RunCallback(L.Callback):
    """A callback that is in one run at a time, and says where it does nothing.

    Attributes:
        works_in: The functions of the trainer in which it works.
        elsewhere: What happens in the others, for the warning; the function is put in for ``{}``.
    """

    works_in: ClassVar[tuple[str, ...]] = ("predict",)
    elsewhere: ClassVar[str] = "trainer.{} is left alone"

    _trainer: weakref.ref[L.Trainer] | None = None
    _said: frozenset[str] = frozenset()

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Refuse what would lose results, and warn where the callback does nothing.

        Raises:
            ReasonEditError: The trainer's processes are forked or spawned.
            InputError: The trainer has the callback in its list twice.
            ConflictError: The callback is in another run.
        """
        refused = spawning_error(trainer)
        if refused is not None:
            raise refused
        if sum(callback is self for callback in getattr(trainer, "callbacks", ())) > 1:
            raise InputError(
                f"The same {type(self).__name__} is in the trainer's list of callbacks twice, and each batch would "
                "count twice: take one out."
            )
        other = self._trainer() if self._trainer is not None else None
        if other is not None and other is not trainer and other.state.status == TrainerStatus.RUNNING:
            raise ConflictError(
                f"This {type(self).__name__} is in the run of another trainer right now: give each trainer its own."
            )
        self._trainer = weakref.ref(trainer)
        if stage not in self.works_in:
            works = ", ".join(f"trainer.{function}" for function in self.works_in)
            elsewhere = self.elsewhere.format(TrainerFn(stage).value)
            self.say_once(trainer, f"{type(self).__name__} works in {works}: {elsewhere}.")

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Say why the run failed where the trainer's processes were forked or spawned: what they say is lost.

        Raises:
            ReasonEditError: They were.
        """
        refused = spawning_error(trainer)
        if refused is not None and isinstance(exception, Exception):
            raise refused from None

    def must_precede(self, trainer: L.Trainer, *kinds: type[L.Callback]) -> None:
        """Refuse a place behind callbacks that must come later.

        Raises:
            InputError: One of them stands before this one.
        """
        callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
        for other in callbacks[: callbacks.index(self)]:
            if isinstance(other, kinds):
                name, late = type(self).__name__, type(other).__name__
                raise InputError(f"{name} must stand before {late} in the list of callbacks: put it first.")

    def say_once(self, trainer: L.Trainer, sentence: str) -> None:
        """Warn, once for each callback and sentence, on the first rank."""
        if sentence not in self._said and trainer.is_global_zero:
            _log.warning("%s", sentence)
        self._said |= {sentence}

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:
        """Refuse to be sent to a process that is spawned; be copied as usual."""
        refuse_spawning()
        return super().__reduce_ex__(protocol)

    def __getstate__(self) -> dict[str, Any]:
        """All but the trainer of the run."""
        return {name: value for name, value in self.__dict__.items() if name != "_trainer"}


def _as_in_predict(hook: str) -> Any:
    def called(self: Evaluates, trainer: L.Trainer, *args: Any) -> None:
        if trainer.state.fn in self.works_in:  # validation is part of fit, too
            getattr(self, f"on_predict_{hook}")(trainer, *args)

    called.__doc__ = f"As ``on_predict_{hook}``."
    return called


class Evaluates(RunCallback):
    """One that does in ``trainer.validate`` and ``trainer.test`` what it does in ``trainer.predict``."""

    works_in: ClassVar[tuple[str, ...]] = ("predict", "validate", "test")

    def answers_in(self, trainer: L.Trainer, outputs: Any) -> list[str] | None:
        """The answers in what a step returned; ``None``, which is said, where a step of validation or test has none.

        Raises:
            ReasonEditError: A prediction has none, or one that is no text.
        """
        listed = isinstance(outputs, (list, tuple)) and all(isinstance(answer, TEXTS) for answer in outputs)
        answers = listed or (isinstance(outputs, dict) and "answers" in outputs)
        if trainer.state.fn != "predict" and not answers:
            kind = type(outputs).__name__
            self.say_once(
                trainer,
                f"{type(self).__name__} counts no batch whose step returns a {kind} in place of a list of answers or a "
                "dict with 'answers'.",
            )
            return None
        return answers_of(outputs)

    on_validation_start = on_test_start = _as_in_predict("start")
    on_validation_batch_start = on_test_batch_start = _as_in_predict("batch_start")
    on_validation_batch_end = on_test_batch_end = _as_in_predict("batch_end")
    on_validation_epoch_end = on_test_epoch_end = _as_in_predict("epoch_end")
    on_validation_end = on_test_end = _as_in_predict("end")
