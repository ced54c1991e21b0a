"""Which fact needs which: the facts of a codebook as a graph (ours)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import networkx as nx

from reasonedit.sentences import content_words

from .stored_edit import StoredEdit

FACT, TERM = "fact", "term"
_Node = tuple[str, str]
_COMMON = 0.2
"""A term that more than this share of all facts have is a word of a relation ("belongs"), and leads nowhere."""
_FEW = 10
"""Of fewer facts none is common."""


class FactGraph:
    """The facts of edits, joined by the terms that one brings and another takes up.

    Within a chain of reasoning a sentence brings the content words that neither the question nor an earlier sentence
    has, and takes up those that an earlier sentence brought: of "The red object is a kettle. A kettle belongs to the
    sailor. The sailor lives on the coast." the second takes up the kettle and brings the sailor, whom the third takes
    up. So the first leads to the second, and that to the third. Edges go from a fact to the terms that it brings, and
    from a term to the facts that take it up. What two edits say alike is one fact, and a word is one term: a fact of
    one edit leads to a fact of another that takes up what it brings.

    It follows from the edits alone: a codebook that is opened has the same graph again.

    Attributes:
        graph: ``networkx.DiGraph``. Nodes are ``("fact", sentence)``, each with the ``edits`` that say it (their ids,
            in order), and ``("term", word)``.
    """

    def __init__(self, edits: Iterable[StoredEdit] = ()) -> None:
        self.graph: nx.DiGraph[_Node] = nx.DiGraph()
        self._taken, self._removals, self._facts, self._edits = 0, -1, 0, 0
        for edit in edits:
            self._add(edit)

    def update(self, edits: Sequence[StoredEdit], removals: int) -> None:
        """Take in the edits that came since the last call, or all anew where one was undone.

        Args:
            edits: The edits that count, in order.
            removals: The codebook's, which grows with every change other than a new edit.
        """
        if removals != self._removals:
            self.graph.clear()
            self._taken, self._removals, self._facts, self._edits = 0, removals, 0, 0
        for edit in edits[self._taken :]:
            self._add(edit)
        self._taken = len(edits)

    def _add(self, edit: StoredEdit) -> None:
        known, brought = set(content_words(edit.question)), set[str]()
        for sentence in edit.reasoning:
            fact, words = (FACT, sentence), set(content_words(sentence))
            self._facts += not self.graph.has_node(fact)
            self.graph.add_node(fact)
            said_by = self.graph.nodes[fact].setdefault("edits", [])
            self.graph.nodes[fact].setdefault("age", self._edits)
            if edit.id not in said_by:
                said_by.append(edit.id)
            for word in sorted(words):  # every one is counted, though it may lead nowhere
                self.graph.add_node((TERM, word))
                self.graph.nodes[TERM, word].setdefault("facts", set()).add(sentence)
            self.graph.add_edges_from((fact, (TERM, word)) for word in sorted(words - known))
            self.graph.add_edges_from(((TERM, word), fact) for word in sorted(words & brought))
            brought |= words - known
            known |= words
        self._edits += 1

    def leads_to(self, facts: Iterable[str], steps: int, without: Collection[str] = ()) -> dict[str, tuple[int, str]]:
        """The facts that others lead to.

        Args:
            facts: Where to begin, such as the facts that a picture shows.
            steps: How many facts one after the other.
            without: Facts that no way leads to, nor through.

        Returns:
            Each fact beyond those, nearest first, with the number of steps and the fact before it.
        """
        seen = {fact for fact in facts if self.graph.has_node((FACT, fact))}
        reached: dict[str, tuple[int, str]] = {}
        front: Sequence[str] = sorted(seen)
        for step in range(1, steps + 1):
            following: list[str] = []
            for fact in front:
                for term in self.graph.successors((FACT, fact)):
                    for _, other in () if self._is_common(term) else self.graph.successors(term):
                        if other not in seen and other not in without:
                            seen.add(other)
                            reached[other] = (step, fact)
                            following.append(other)
            front = following
        return reached

    def resting_on(self, edit_id: str) -> dict[str, list[str]]:
        """The edits that lead on to facts that only one edit says: without it their questions of two steps lose them.

        Args:
            edit_id: The edit.

        Returns:
            By the ids of other edits, the facts of this one that theirs lead to.
        """
        resting: dict[str, list[str]] = {}
        for fact in self._facts_of(edit_id):
            if self.edits_of(fact) != [edit_id]:
                continue
            for term in self.graph.predecessors((FACT, fact)):
                for _, before in () if self._is_common(term) else self.graph.predecessors(term):
                    for owner in self.edits_of(before):
                        if owner != edit_id and fact not in resting.setdefault(owner, []):
                            resting[owner].append(fact)
        return resting

    def terms_of(self, fact: str) -> set[str]:
        """The terms that a fact brings or takes up; without words of relations."""
        node = (FACT, fact)
        if not self.graph.has_node(node):
            return set()
        terms = [*self.graph.successors(node), *self.graph.predecessors(node)]
        return {word for _, word in terms if not self._is_common((TERM, word))}

    def taken_by(self, fact: str) -> set[str]:
        """The terms that a fact takes up; without words of relations."""
        node = (FACT, fact)
        terms = self.graph.predecessors(node) if self.graph.has_node(node) else ()
        return {word for _, word in terms if not self._is_common((TERM, word))}

    def age(self, fact: str) -> int:
        """The number of the edit that said a fact first, in the order in which they came."""
        return int(self.graph.nodes[FACT, fact]["age"])

    def edits_of(self, fact: str) -> list[str]:
        """The ids of the edits that say a fact, in order."""
        return list(self.graph.nodes[FACT, fact]["edits"]) if self.graph.has_node((FACT, fact)) else []

    def between_facts(self) -> nx.DiGraph[str]:
        """The facts alone, with an edge for each pair of which one leads to the other; its ``terms`` say by what."""
        facts: nx.DiGraph[str] = nx.DiGraph()
        facts.add_nodes_from(
            (name, {"edits": ", ".join(d["edits"])}) for (kind, name), d in self._nodes() if kind == FACT
        )
        for (kind, name), _ in self._nodes():
            if kind != TERM or self._is_common((kind, name)):
                continue
            for _, before in self.graph.predecessors((kind, name)):
                for _, after in self.graph.successors((kind, name)):
                    if before != after:
                        terms = facts.get_edge_data(before, after, {}).get("terms", "")
                        facts.add_edge(before, after, terms=f"{terms}, {name}" if terms else name)
        return facts

    def _nodes(self) -> Iterable[tuple[_Node, Mapping[str, Any]]]:
        return list(self.graph.nodes(data=True))

    def _facts_of(self, edit_id: str) -> list[str]:
        return [name for (kind, name), data in self._nodes() if kind == FACT and edit_id in data["edits"]]

    def _is_common(self, term: _Node) -> bool:
        return self._facts >= _FEW and len(self.graph.nodes[term]["facts"]) > _COMMON * self._facts
