"""Many clients at once: nothing is lost, nothing is wrong, and what was acknowledged is on the disk."""

import os
import random
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest
from helpers.served import message_of, serving_app, serving_command, uri_of
from helpers.tiny import design, picture

from reasonedit import Edit, ReasonEditor
from reasonedit.codebook import EditMemory, Store
from reasonedit.serve.app import create_app
from reasonedit.serve.settings import Settings

QUESTIONS = 6


def edit_body(number):
    content = {"question": f"What is number {number}?", "answer": f"thing {number}"}
    return {"image": uri_of(picture(number % QUESTIONS)), **content, "reasoning": [f"Number {number} is round."]}


@pytest.mark.parametrize(
    ("requests", "edits", "replicas"),
    [(12, 6, 2), pytest.param(200, 20, 2, marks=pytest.mark.slow)],
)
def test_each_answer_is_that_of_some_order_one_after_the_other(
    tiny_vlm, hash_encoder, tmp_path, requests, edits, replicas
):
    """Eight clients ask, and others edit and undo meanwhile; two replicas answer."""
    first = ReasonEditor(tiny_vlm, design(k=2, keys="both"))
    first.save(tmp_path / "codebook")
    others = [ReasonEditor.load(tmp_path / "codebook", tiny_vlm) for _ in range(replicas - 1)]
    pictures = [uri_of(picture(i)) for i in range(QUESTIONS)]
    acknowledged = []
    with serving_app(create_app([first, *others], Settings("tiny"))) as server:

        def asks(client):
            order, told = random.Random(client), []
            with server.http() as http:
                for _ in range(requests):
                    number = order.randrange(QUESTIONS)
                    message = message_of(pictures[number], f"What is number {number}?")
                    body = {"model": "tiny", "messages": [message], "max_tokens": 3}
                    reply = http.post("/v1/chat/completions", json=body)
                    assert reply.status_code == 200, reply.text
                    facts = tuple(fact["text"] for fact in reply.json()["reasonedit"]["facts"])
                    told.append((number, reply.json()["choices"][0]["message"]["content"], facts))
            return told

        def changes():
            with server.http() as http:
                for number in range(edits):
                    made = http.post("/v1/edits", json=edit_body(number)).json()["id"]
                    acknowledged.append(("edit", made))
                    if number % 2:
                        assert http.delete(f"/v1/edits/{made}").status_code == 200
                        acknowledged.append(("undo", made))

        with ThreadPoolExecutor(9) as pool:
            changing = pool.submit(changes)
            told = [future.result() for future in [pool.submit(asks, client) for client in range(8)]]
            changing.result()
    events = EditMemory.open(Store.open(tmp_path / "codebook")).events
    assert [(event.op, event.edit_id) for event in events] == acknowledged
    states = replay(tiny_vlm, events)
    assert sum(len(answers) for answers in told) == 8 * requests
    for answers in told:
        place = 0
        for number, *answer in answers:  # and one client never sees the codebook go back, whichever replica answers
            seen = states[number]
            at = next((n for n in range(place, len(seen)) if seen[n] == tuple(answer)), None)
            assert at is not None, (number, answer, place)
            place = at


def replay(vlm, events):
    """What each question gets after each of the events, one after the other."""
    editor = ReasonEditor(vlm, design(k=2, keys="both"))
    states = {number: [] for number in range(QUESTIONS)}

    def note():
        for number, seen in states.items():
            answer = editor.ask(picture(number), f"What is number {number}?", max_new_tokens=3)
            seen.append((answer.text, tuple(hit.fact for hit in answer.hits)))

    note()
    for event in events:
        if event.edit is not None:
            image = picture(int(event.edit.answer.split()[1]) % QUESTIONS)
            editor.write(Edit(image, event.edit.question, event.edit.answer, event.edit.reasoning, id=event.edit_id))
        else:
            getattr(editor, event.op)(event.edit_id)
        note()
    return states


def test_what_was_acknowledged_is_there_after_kill_9(tiny_vlm, hash_encoder, tmp_path):
    """Four clients edit, undo and replace while the server is killed."""
    codebook = tmp_path / "codebook"
    ReasonEditor(tiny_vlm, design(k=2, keys="both")).save(codebook)
    written, undone, unsure = set(), set(), set()
    enough = threading.Event()
    with serving_command(
        tmp_path / "server", "--codebook", codebook, "--name", "tiny", "--dtype", "float32", tiny=True
    ) as server:
        assert server.process is not None

        def edits(client):
            last = None
            with server.http() as http:
                for number in range(10_000):
                    replaces = {"replaces": last} if last is not None and number % 3 == 2 else {}
                    if last is not None:
                        unsure.add(last)
                    try:
                        reply = http.post("/v1/edits", json={**edit_body(100 * client + number), **replaces})
                        assert reply.status_code == 201, reply.text
                        made = reply.json()["id"]
                        if replaces:
                            written.discard(last)
                            undone.add(last)
                        written.add(made)
                        if number % 4 == 3:
                            unsure.add(made)
                            assert http.delete(f"/v1/edits/{made}").status_code == 200
                            written.discard(made)
                            undone.add(made)
                            made = None
                        last = made
                    except httpx2.HTTPError:
                        return
                    if len(written) >= 10:
                        enough.set()

        with ThreadPoolExecutor(4) as pool:
            clients = [pool.submit(edits, client) for client in range(4)]
            assert enough.wait(1800)
            os.kill(server.process.pid, signal.SIGKILL)
            for client in clients:
                client.result()
    memory = EditMemory.open(Store.open(codebook))
    assert undone <= set(memory.undone)
    assert written <= set(memory.edits) | set(memory.undone)
    assert written - unsure <= set(memory.edits)
    # Of a replacement that was under way, both happened or neither.
    assert len(set(memory.undone) - undone) <= 4
    again = ReasonEditor.load(codebook, tiny_vlm)
    again.edit(picture(0), "And now?", answer="on", reasoning=["It goes on."])
