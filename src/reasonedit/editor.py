"""Edit and ask without Lightning."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from reasonedit.boxes import Region
from reasonedit.codebook import EditMemory, Store, StoredEdit
from reasonedit.codebook.hub import fetch_from_hub, push_to_hub
from reasonedit.design import Design
from reasonedit.erasure import Erasure, erase_from
from reasonedit.explain import Explanation
from reasonedit.images import ImageSource
from reasonedit.pipeline import EditingPipeline, Written
from reasonedit.threads import Gathering
from reasonedit.types import Answer, Edit, Query
from reasonedit.vlm import VLM, Generation, load_vlm


class ReasonEditor:
    """A frozen VLM that is corrected by human reasoning.

    Any number of threads may ask, edit, undo and explain at the same time: each gets what it would have got had they
    come one after the other, in some order. An edit counts from the moment in which the codebook has it, and
    a question sees the codebook of the moment in which its facts are fetched. What several threads ask while the model
    is busy is answered as one batch, as by :meth:`ask_batch`.

    Args:
        vlm: The VLM.
        design: How edits are embedded, grounded, written and fetched; when not given, for the embedded VLM what won on
            it, for any other the paper's.
        generation: How answers are made, where a question does not say otherwise.

    Example:
        >>> editor = ReasonEditor.from_pretrained("llava-hf/llava-1.5-7b-hf")  # doctest: +SKIP
        >>> editor.edit("photo.jpg", "What is it?", answer="a boomerang",
        ...             reasoning="It is curved and flat. It comes back when thrown.")  # doctest: +SKIP
        >>> editor.ask("other.jpg", "What is it?").text  # doctest: +SKIP
    """

    def __init__(self, vlm: VLM, design: Design | None = None, generation: Generation | None = None) -> None:
        self._begin(EditingPipeline(vlm, design), generation)

    def _begin(self, pipeline: EditingPipeline, generation: Generation | None) -> None:
        self.vlm, self.pipeline = pipeline.vlm, pipeline
        self.generation = generation or Generation()
        self._together = Gathering(self._answer)

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
        **kwargs: Any,
    ) -> ReasonEditor:
        """Load a VLM and start with an empty codebook.

        Args:
            model: Hub id, folder, or ``"embedded"``.
            design: As above.
            dtype: ``"auto"`` or the name of a torch type.
            max_new_tokens: Longest open answer; this and the next two as in
                :class:`~reasonedit.vlm.generation.Generation`.
            choice_rule: Which choice is the answer.
            generate_kwargs: Other arguments of transformers' ``generate``.
            **kwargs: Passed on to transformers' ``from_pretrained``, such as ``device_map``.

        Raises:
            ReasonEditError: The model cannot be had, or an argument is out of range.
        """
        generation = Generation().but(max_new_tokens, choice_rule, **(generate_kwargs or {}))
        return cls(load_vlm(model, dtype=dtype, place=True, **kwargs), design, generation)

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
        """Correct one answer. Where the codebook is in a folder, the edit is on the disk when this returns.

        Args:
            image: The image asked about.
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
            ReasonEditError: Anything of it is unusable; nothing is stored then.
        """
        edit = Edit.of(image, question, answer, reasoning, choices, evidence, author, answers)
        self.write(edit)
        return edit

    def write(self, edit: Edit) -> Written:
        """Write an edit that was made already.

        Returns:
            What became of it: how many keys are new, the evidence of each sentence, and the edits that it contradicts.

        Raises:
            ReasonEditError: An edit of this id is there already.
        """
        return self.pipeline.write(edit)

    @property
    def edits(self) -> dict[str, StoredEdit]:
        """The edits that count, by id, in the order in which they came."""
        return self.memory.edits

    def undo(self, edit_id: str, author: str = "") -> StoredEdit:
        """Take exactly one edit out: what is left is what the other edits alone would have made.

        Args:
            edit_id: Its id, or the beginning of it.
            author: Who undoes it.

        Raises:
            ReasonEditError: There is no such edit, or it is undone already.
        """
        return self.memory.undo(edit_id, author)

    def restore(self, edit_id: str, author: str = "") -> StoredEdit:
        """Put an edit back that was undone; arguments and errors as for :meth:`undo`."""
        return self.memory.restore(edit_id, author)

    def erase(self, edit_id: str, author: str = "") -> Erasure:
        """Erase an edit for good, with what lies beside the codebook; see :func:`reasonedit.erasure.erase_from`.

        Args:
            edit_id: Its id, or the beginning of it.
            author: Who erases it.

        Returns:
            What was erased, and where more may be left.

        Raises:
            ReasonEditError: There is no such edit, the codebook is in no folder, or not all could be erased.
        """
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
        """Answer a question, with the facts that bear on it.

        Args:
            image: The image.
            question: The question.
            choices: The choices of a multiple-choice question.
            max_new_tokens: Longest open answer; this and what follows in place of :attr:`generation`, as in
                :class:`~reasonedit.vlm.generation.Generation`.
            choice_rule: Which choice is the answer.
            **generate_kwargs: Other arguments of transformers' ``generate``.

        Raises:
            ReasonEditError: The image, the question or a generation argument is unusable.
        """
        how = self.generation.but(max_new_tokens, choice_rule, **generate_kwargs)
        return self._together.ask((Query.of(image, question, choices), how))

    def ask_batch(
        self,
        queries: Sequence[Query],
        *,
        max_new_tokens: int | None = None,
        choice_rule: str | None = None,
        **generate_kwargs: Any,
    ) -> list[Answer]:
        """Answer several questions at once, each as :meth:`ask` does; of no questions there are no answers."""
        how = self.generation.but(max_new_tokens, choice_rule, **generate_kwargs)
        return self._answer([(query, how) for query in queries])

    def _answer(self, asked: Sequence[tuple[Query, Generation]]) -> list[Answer]:
        """Answer questions; those that are to be answered in the same way in one batch."""
        answers: list[Answer | None] = [None] * len(asked)
        while None in answers:
            how = asked[answers.index(None)][1]
            rows = [i for i, (_, mine) in enumerate(asked) if mine == how]
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
        """Answer a question, and say for each key that came near why its facts were used or not.

        Args and errors as for :meth:`ask`.
        """
        how = self.generation.but(max_new_tokens, choice_rule, **generate_kwargs)
        return self.pipeline.explain(Query.of(image, question, choices), how)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Keep the codebook in a folder from now on: what is edited later is on the disk at once.

        Raises:
            ReasonEditError: There is another codebook, or the folder cannot be written.
        """
        self.pipeline.save(folder)

    def push_to_hub(self, repo_id: str, *, private: bool = True, message: str = "Codebook") -> str:
        """Upload the codebook's folder; see :func:`reasonedit.codebook.hub.push_to_hub`."""
        return push_to_hub(self.memory.store, repo_id, private=private, message=message)

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        vlm: VLM | None = None,
        *,
        dtype: str = "auto",
        generation: Generation | None = None,
        **kwargs: Any,
    ) -> ReasonEditor:
        """Go on with a codebook: what is edited is written into its folder at once, what others write there is seen.

        Args:
            folder: Where it is.
            vlm: The VLM, when it is loaded already; else the one named in the folder is loaded.
            dtype: As in :meth:`from_pretrained`.
            generation: How answers are made, where a question does not say otherwise.
            **kwargs: Passed on to transformers' ``from_pretrained``, such as ``device_map``.

        Raises:
            ReasonEditError: There is no codebook, it is damaged, or it was made with another model.
        """
        return cls._on(Store.open(folder), vlm, dtype, generation, kwargs)

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
        """Go on with a codebook from the Hugging Face Hub; :meth:`save` it into a folder to edit.

        Args:
            repo_id: Name of the repository.
            revision: Branch, tag or commit.
            vlm: As in :meth:`load`.
            dtype: As in :meth:`from_pretrained`.
            generation: How answers are made, where a question does not say otherwise.
            **kwargs: Passed on to transformers' ``from_pretrained``, such as ``device_map``.

        Raises:
            ReasonEditError: It cannot be fetched; or as for :meth:`load`.
        """
        return cls._on(Store.open(fetch_from_hub(repo_id, revision), read_only=True), vlm, dtype, generation, kwargs)

    @classmethod
    def _on(
        cls, store: Store, vlm: VLM | None, dtype: str, generation: Generation | None, kwargs: dict[str, Any]
    ) -> ReasonEditor:
        vlm = vlm or load_vlm(store.manifest.model, dtype=dtype, place=True, **kwargs)
        editor = cls.__new__(cls)
        editor._begin(EditingPipeline.open(store, vlm), generation)
        return editor
