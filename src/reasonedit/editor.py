"""The editor: edits a VLM and asks it questions, without Lightning."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from reasonedit.boxes import Region
from reasonedit.calibration import Calibration, calibrate
from reasonedit.call_batcher import CallBatcher
from reasonedit.checking import EditCheck, check_edit
from reasonedit.codebook import EditMemory, Store, StoredEdit
from reasonedit.codebook.hub import fetch_from_hub, push_to_hub
from reasonedit.cold_start import ColdStart
from reasonedit.design import Design
from reasonedit.erasure import Erasure, erase_from
from reasonedit.explain import Explanation
from reasonedit.images import ImageSource
from reasonedit.keys import Written
from reasonedit.own_reasoning import OwnReasoning, reason_for
from reasonedit.pipeline import EditingPipeline
from reasonedit.recalibrate import recalibrate
from reasonedit.types import Answer, Edit, Query
from reasonedit.vlm import VLM, Generation, load_vlm


class ReasonEditor:
    """A frozen VLM that is corrected by human reasoning.

    Any number of threads may ask, edit, undo and explain at the same time. Each gets what it would have got if they had
    come one after the other, in some order. An edit counts from the moment in which the codebook has it. A question
    sees the codebook at the moment in which its facts are retrieved. Questions that several threads ask while the model
    is busy are answered as one batch, as by :meth:`ask_batch`.

    Where the design's reference is ``"own"`` and no calibration is given, it begins with cautious bounds, takes in the
    pictures that are asked about and edited (of which only means are kept), and is calibrated with the 32nd and 64th.

    Args:
        vlm: The VLM.
        design: How edits are embedded, grounded, written and retrieved; the default design of the VLM when not given,
            see :meth:`Design.default`.
        generation: How answers are made, unless a question says otherwise.
        calibration: What pictures like those that will be asked about say of the VLM, from :meth:`calibrate` or
            ``reasonedit calibrate``.

    Example:
        >>> editor = ReasonEditor.from_pretrained("llava-hf/llava-1.5-7b-hf")  # doctest: +SKIP
        >>> editor.edit("photo.jpg", "What is it?", answer="a boomerang",
        ...             reasoning="It is curved and flat. It comes back when thrown.")  # doctest: +SKIP
        >>> editor.ask("other.jpg", "What is it?").text  # doctest: +SKIP
    """

    def __init__(
        self,
        vlm: VLM,
        design: Design | None = None,
        generation: Generation | None = None,
        calibration: Calibration | None = None,
    ) -> None:
        self._set_up(EditingPipeline(vlm, design, calibration=calibration), generation)

    def _set_up(self, pipeline: EditingPipeline, generation: Generation | None) -> None:
        self.vlm, self.pipeline, self.generation = pipeline.vlm, pipeline, generation or Generation()
        self._batcher = CallBatcher(self._answer)
        self._cold_start = ColdStart.of(pipeline)
        if self._cold_start is not None:
            pipeline.watch = self._cold_start.take

    @property
    def memory(self) -> EditMemory:
        """The codebook."""
        return self.pipeline.memory

    @classmethod
    def from_pretrained(
        cls,
        model: str,
        design: Design | None = None,
        *,
        dtype: str = "auto",
        max_new_tokens: int | None = None,
        choice_rule: str | None = None,
        generate_kwargs: Mapping[str, Any] | None = None,
        calibration: Calibration | None = None,
        **kwargs: Any,
    ) -> ReasonEditor:
        """Load a VLM and start with an empty codebook.

        Args:
            model: Hub id, folder, or ``"embedded"``.
            design: As above.
            dtype: ``"auto"`` or the name of a torch type.
            max_new_tokens: Longest open answer; this and the next two arguments as in
                :class:`~reasonedit.vlm.generation.Generation`.
            choice_rule: Which choice is the answer.
            generate_kwargs: Other arguments of transformers' ``generate``.
            calibration: As above.
            **kwargs: Passed on to transformers' ``from_pretrained``, such as ``device_map``.

        Raises:
            ReasonEditError: The model cannot be loaded, or an argument is out of range.
        """
        generation = Generation().but(max_new_tokens, choice_rule, **(generate_kwargs or {}))
        return cls(load_vlm(model, dtype=dtype, place=True, **kwargs), design, generation, calibration)

    def calibrate(
        self,
        pictures: str | os.PathLike[str] | Iterable[ImageSource],
        done: Callable[[int, int], None] = lambda _done, _all: None,
    ) -> Calibration:
        """Learn from unlabelled pictures what is near and what is far in pictures like them.

        Edits that are there are embedded anew from the evidence that was found for them; until all are, questions are
        answered as before. With a folder the step is on the disk when this returns.

        Args:
            pictures: A folder, or the pictures: 64 or more like those that will be asked about. Those of a folder that
                cannot be read are named in the calibration's ``record.left_out``.
            done: Told how many pictures were read, and of how many.

        Returns:
            The calibration, which can be saved for other codebooks.

        Raises:
            InputError: There are fewer than 16 distinct pictures, one that was given cannot be read, or the design
                embeds no pictures.
            ReasonEditError: The codebook cannot be written. Nothing has changed in any of these cases.
        """
        calibration = calibrate(self.pipeline.embedder, pictures, done)
        recalibrate(self.pipeline, calibration)
        return calibration

    def edit(
        self,
        image: ImageSource,
        question: str,
        *,
        answer: str,
        reasoning: str | Sequence[str],
        choices: Sequence[str] | None = None,
        evidence: Sequence[Sequence[Region] | None] = (),
        author: str = "",
        answers: Sequence[str] = (),
    ) -> Edit:
        """Correct an answer. Where the codebook is in a folder, the edit is on the disk when this returns.

        Args:
            image: The image that the question is about.
            question: The question that was answered wrongly.
            answer: The right answer.
            reasoning: Why it is right, one fact per sentence.
            choices: The choices of a multiple-choice question.
            evidence: For each sentence the regions it speaks of, as in :class:`~reasonedit.Edit`.
            author: Who makes the edit.
            answers: All right answers, where there are several; see :class:`~reasonedit.Edit`.

        Returns:
            The edit, with its id.

        Raises:
            InputError: An argument is unusable.
            ReasonEditError: The codebook cannot be written. Nothing is stored in either case.
        """
        edit = Edit.of(image, question, answer, reasoning, choices, evidence, author, answers)
        self.write(edit)
        return edit

    def write(self, edit: Edit) -> Written:
        """Write an :class:`~reasonedit.Edit`.

        Returns:
            How many keys are new, the evidence of each sentence, and the edit as it is kept.

        Raises:
            ConflictError: An edit of this id is there already.
            ReasonEditError: The codebook cannot be written.
        """
        return self._write(edit)

    def _write(self, edit: Edit, replaces: str = "") -> Written:
        written = self.pipeline.write(edit, replaces=replaces)
        if self._cold_start is not None:
            self._cold_start.take([edit.image])
        return written

    def check_edit(
        self, edit: Edit | str, questions: Sequence[Query] = (), replaces: str = "", asked: Sequence[Query] = ()
    ) -> EditCheck:
        """Find out what an :class:`~reasonedit.Edit` would do, without writing it; or what one that is written does.

        Args:
            edit: The edit, or the id of one that is written.
            questions: Questions to ask before and after, besides those by which the edit is tried.
            replaces: The id of the edit that it would replace, if it would one.
            asked: Questions that were asked before: the nearest of them must be left alone.

        Returns:
            A verdict, the answers, and what would be written; see :func:`reasonedit.checking.check_edit`.

        Raises:
            ReasonEditError: As for :meth:`write` and :meth:`replace`.
        """
        return check_edit(self.pipeline, edit, questions, self.generation, replaces, asked)

    def replace(self, edit_id: str, edit: Edit) -> Written:
        """Write an :class:`~reasonedit.Edit` in the place of one that was wrong, which is undone: both, or neither.

        Args:
            edit_id: The whole id of the wrong one.
            edit: The right one; its author undoes the other.

        Returns:
            As for :meth:`write`.

        Raises:
            NotFoundError: There is no such edit.
            ConflictError: It is undone already, or there is an edit with the id of the new one.
            ReasonEditError: The codebook cannot be written.
        """
        self.memory.refresh()
        return self._write(edit, self.memory.find(edit_id).id)  # one that is not there is refused at once

    @property
    def edits(self) -> dict[str, StoredEdit]:
        """The edits that count, by id, in the order in which they came."""
        return self.memory.edits

    def undo(self, edit_id: str, author: str = "") -> StoredEdit:
        """Take exactly one edit out: what is left is what the other edits alone would have made.

        Args:
            edit_id: Its whole id.
            author: Who undoes it.

        Raises:
            NotFoundError: There is no such edit.
            ConflictError: It is undone already.
            ReasonEditError: The codebook cannot be written.
        """
        return self.memory.undo(edit_id, author)

    def restore(self, edit_id: str, author: str = "") -> StoredEdit:
        """Put an edit back that was undone; arguments and errors as for :meth:`undo`."""
        return self.memory.restore(edit_id, author)

    def erase(self, edit_id: str, author: str = "") -> Erasure:
        """Erase an edit for good, and say where more may be left; see :func:`reasonedit.erasure.erase_from`."""
        return erase_from(self.memory, [edit_id], author)

    def ask(
        self,
        image: ImageSource,
        question: str,
        choices: Sequence[str] | None = None,
        *,
        max_new_tokens: int | None = None,
        choice_rule: str | None = None,
        **generate_kwargs: Any,
    ) -> Answer:
        """Answer a question with the facts that are retrieved for it.

        Args:
            image: The image.
            question: The question.
            choices: The choices of a multiple-choice question.
            max_new_tokens: Longest open answer; this and the next arguments replace those of :attr:`generation`, as in
                :class:`~reasonedit.vlm.generation.Generation`.
            choice_rule: Which choice is the answer.
            **generate_kwargs: Other arguments of transformers' ``generate``.

        Raises:
            InputError: The image, the question or a generation argument is unusable.
        """
        how = self.generation.but(max_new_tokens, choice_rule, **generate_kwargs)
        return self._batcher.ask((Query.of(image, question, choices), how))

    def ask_batch(
        self,
        queries: Sequence[Query],
        *,
        max_new_tokens: int | None = None,
        choice_rule: str | None = None,
        **generate_kwargs: Any,
    ) -> list[Answer]:
        """Answer several questions at once, each as :meth:`ask` does; arguments and errors as there."""
        how = self.generation.but(max_new_tokens, choice_rule, **generate_kwargs)
        return self._answer([(query, how) for query in queries])

    def _answer(self, asked: Sequence[tuple[Query, Generation]]) -> list[Answer]:
        """Answer questions, in one batch those with the same generation arguments."""
        answers: list[Answer | None] = [None] * len(asked)
        while None in answers:
            how = asked[answers.index(None)][1]
            rows = [i for i, (_, generation) in enumerate(asked) if generation == how]
            for row, answer in zip(rows, self.pipeline.answer([asked[i][0] for i in rows], how), strict=True):
                answers[row] = answer
        return [answer for answer in answers if answer is not None]

    def explain(
        self,
        image: ImageSource,
        question: str,
        choices: Sequence[str] | None = None,
        *,
        max_new_tokens: int | None = None,
        choice_rule: str | None = None,
        **generate_kwargs: Any,
    ) -> Explanation:
        """Answer a question, and say of each near key why its facts were used or not; arguments as for :meth:`ask`."""
        how = self.generation.but(max_new_tokens, choice_rule, **generate_kwargs)
        return self.pipeline.explain(Query.of(image, question, choices), how)

    def own_reasoning(
        self, image: ImageSource, question: str, answer: str | None = None, choices: Sequence[str] | None = None
    ) -> OwnReasoning:
        """The VLM's own reasons for an answer, or for its own one, as a start for those of a person.

        The codebook has no part in it; see :func:`reasonedit.own_reasoning.reason_for`.
        """
        return reason_for(self.vlm, Query.of(image, question, choices), answer or "", self.generation)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Keep the codebook in a folder from now on: later edits are on the disk at once.

        Raises:
            ConflictError: There is another codebook.
            UnavailableError: The folder cannot be written.
        """
        self.pipeline.save(folder)

    def push_to_hub(self, repo_id: str, *, private: bool = True, message: str = "Codebook", licence: str = "") -> str:
        """Upload the codebook's folder; see :func:`reasonedit.codebook.hub.push_to_hub`."""
        return push_to_hub(self.memory, repo_id, private=private, message=message, licence=licence)

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        vlm: VLM | None = None,
        *,
        dtype: str = "auto",
        generation: Generation | None = None,
        read_only: bool = False,
        **kwargs: Any,
    ) -> ReasonEditor:
        """Open a codebook. Edits are written into its folder at once, and edits that others write there are seen.

        Args:
            folder: Where it is.
            vlm: The VLM, if it is loaded already; else the one that the folder names is loaded.
            dtype: As in :meth:`from_pretrained`.
            generation: How answers are made, unless a question says otherwise.
            read_only: Whether the folder is not changed, whatever is asked: edits are refused.
            **kwargs: Passed on to transformers' ``from_pretrained``, such as ``device_map``.

        Raises:
            NotFoundError: There is no codebook.
            DamagedError: It is damaged.
            MismatchError: It was made with another model.
        """
        return cls._open(Store.open(folder, read_only=read_only), vlm, dtype, generation, kwargs)

    @classmethod
    def from_hub(
        cls,
        repo_id: str,
        revision: str | None = None,
        vlm: VLM | None = None,
        *,
        dtype: str = "auto",
        generation: Generation | None = None,
        **kwargs: Any,
    ) -> ReasonEditor:
        """Open a codebook of the Hugging Face Hub. To edit it, :meth:`save` it into a folder.

        Args:
            repo_id: Name of the repository.
            revision: Branch, tag or commit.
            vlm: As in :meth:`load`.
            dtype: As in :meth:`from_pretrained`.
            generation: How answers are made, unless a question says otherwise.
            **kwargs: Passed on to transformers' ``from_pretrained``, such as ``device_map``.

        Raises:
            UnavailableError: It cannot be fetched.
            ReasonEditError: As for :meth:`load`.
        """
        return cls._open(Store.open(fetch_from_hub(repo_id, revision), read_only=True), vlm, dtype, generation, kwargs)

    @classmethod
    def _open(
        cls, store: Store, vlm: VLM | None, dtype: str, generation: Generation | None, kwargs: dict[str, Any]
    ) -> ReasonEditor:
        vlm = vlm or load_vlm(store.manifest.model, dtype=dtype, place=True, **kwargs)
        editor = cls.__new__(cls)
        editor._set_up(EditingPipeline.open(store, vlm), generation)
        return editor
