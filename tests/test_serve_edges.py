"""What a server refuses and survives, on a tiny VLM: keys, bounds, addresses, hostile texts, bad bodies."""

import base64
import errno
import io
import json
import logging
import socket
import threading
import zipfile
from contextlib import contextmanager
from dataclasses import replace
from urllib.parse import quote

import httpx2
import pytest
from helpers.served import message_of, serving_app, uri_of
from helpers.tiny import design, picture
from PIL import Image

from reasonedit import Edit, ReasonEditor
from reasonedit.checking import Verdict
from reasonedit.cli import main
from reasonedit.codebook import EditMemory, Store
from reasonedit.commands.serve import parser
from reasonedit.commands.serving import open_editors, questions_from, settings_from
from reasonedit.data.exported import load_edits
from reasonedit.erasure import erase
from reasonedit.errors import UnavailableError
from reasonedit.serve.app import create_app
from reasonedit.serve.chat_request import ChatRequest, generation_of
from reasonedit.serve.local import LocalModels
from reasonedit.serve.observed import REQUESTS
from reasonedit.serve.settings import Settings
from reasonedit.traces import KeptQuestions, folder_of_questions
from reasonedit.vlm import Generation

KEY = "a key that nobody guesses"


@pytest.fixture
def make(tiny_vlm, hash_encoder, tmp_path):
    """A server with some settings; its codebook is in a folder."""
    running = []

    def start(editors=1, keep=0, **settings):
        folder = tmp_path / f"codebook-{len(running)}"
        first = ReasonEditor(tiny_vlm, design(k=2, keys="both"))
        first.save(folder)
        all_editors = [first, *(ReasonEditor.load(folder, tiny_vlm) for _ in range(editors - 1))]
        kept = KeptQuestions(folder_of_questions(folder), keep) if keep else None
        manager = serving_app(create_app(all_editors, Settings("tiny", **settings), kept))
        running.append(manager)
        server = manager.__enter__()
        server.folder, server.editors = folder, all_editors
        return server

    yield start
    for manager in running:
        manager.__exit__(None, None, None)


def body_of(image, question="What is it?", **more):
    return {"model": "tiny", "messages": [message_of(image, question)], "max_tokens": 3, **more}


def ask(http, image, question="What is it?", **more):
    return http.post("/v1/chat/completions", json=body_of(image, question, **more))


def edit_body(number=0, **more):
    content = {"question": f"What is number {number}?", "answer": f"thing {number}"}
    return {"image": uri_of(picture(number)), **content, "reasoning": [f"Number {number} is round."], **more}


def check_error(reply, status, code=None):
    """It is an error in the shape of OpenAI's, and the server lives on."""
    assert reply.status_code == status, reply.text
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert error["type"]
    assert code is None or error["code"] == code
    assert reply.headers["x-request-id"]
    health = httpx2.get(reply.url.join("/health"))
    assert health.json()["status"] == "ok"


def test_a_key_is_needed_everywhere_but_for_health_and_the_page(make):
    server = make(api_key=KEY)
    with server.http() as http:
        assert http.get("/health").status_code == 200
        assert http.get("/", follow_redirects=True).status_code == 200
        for path in ("/v1/models", "/v1/edits", "/v1/info", "/metrics"):
            check_error(http.get(path), 401, "missing_api_key")
            check_error(http.get(path, headers={"Authorization": "Bearer wrong"}), 401, "invalid_api_key")
            check_error(http.get(path, headers={"Authorization": f"Basic {KEY}"}), 401, "invalid_api_key")
            assert http.get(path, headers={"Authorization": f"Bearer {KEY}"}).status_code == 200
        check_error(http.post("/v1/edits", json=edit_body()), 401)
    with server.openai(api_key=KEY) as client:
        assert [model.id for model in client.models.list()] == ["tiny"]


def test_a_strangers_name_for_this_machine_is_refused(make):
    with make(hosts=("127.0.0.1", "localhost")).http() as http:
        assert http.get("/v1/models", headers={"Host": "localhost:80"}).status_code == 200
        check_error(http.get("/v1/models", headers={"Host": "evil.example"}), 403, "wrong_host")


def test_bodies_are_bounded_whether_they_say_their_length_or_not(make):
    server = make(body_mb=1)
    with server.http() as http:
        check_error(ask(http, "data:image/png;base64," + "A" * (2 << 20)), 413)

        def parts():
            for _ in range(64):
                yield b" " * (1 << 16)

        reply = http.post("/v1/chat/completions", content=parts(), headers={"Content-Type": "application/json"})
        check_error(reply, 413)


def too_many_pixels():
    file = io.BytesIO()
    Image.new("1", (10_000, 10_000)).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def test_what_is_no_picture_is_refused(make):
    with make().http() as http:
        for source, code in (
            (too_many_pixels(), "image_too_large"),
            ("data:image/png;base64,aGVsbG8=", "invalid_image"),
            ("data:image/png;base64,@@@", "invalid_image"),
            ("data:image/png,hello", "invalid_image"),
            ("file:///etc/passwd", "invalid_image"),
            ("/v1/edits/none/image", "not_found"),
            ("/../../etc/passwd", "not_found"),
            ("", "invalid_image"),
        ):
            status = 404 if code == "not_found" else 400
            check_error(ask(http, source), status, code)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/x.png",
        "http://localhost:{port}/x.png",
        "http://[::1]:{port}/x.png",
        "http://[::ffff:127.0.0.1]:{port}/x.png",
        "http://2130706433:{port}/x.png",
        "http://0.0.0.0:{port}/x.png",
        "http://10.0.0.1/x.png",
        "http://169.254.169.254/latest/meta-data",
        "http://[64:ff9b::7f00:1]/x.png",
        "http://[2002:7f00:1::]/x.png",
        "http://user@127.0.0.1:{port}/x.png",
        "http:///x.png",
        "http://no such host/x.png",
    ],
)
def test_private_addresses_are_never_fetched(make, url):
    """By default no address is; where that is allowed, none that leads into a private network."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0)
        address = url.format(port=listening.getsockname()[1])
        with make().http() as http:
            check_error(ask(http, address), 400, "image_url_not_allowed")
        with make(image_urls=True).http() as http:
            check_error(ask(http, address), 400, "invalid_image_url")
        with pytest.raises(BlockingIOError):  # nobody came
            listening.accept()


def test_a_redirect_into_a_private_network_is_not_followed(make, monkeypatch):
    """The first address counts as public; where it leads to does not."""
    from reasonedit.serve import pictures

    asked = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]

        def answer():
            connection, _ = listening.accept()
            with connection:
                asked.append(connection.recv(65536))
                connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/x\r\nContent-Length: 0\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        real = pictures._public_address
        monkeypatch.setattr(
            pictures, "_public_address", lambda url, param: "127.0.0.1" if "first" in url else real(url, param)
        )
        with make(image_urls=True).http() as http:
            check_error(ask(http, f"http://first.example:{port}/x.png"), 400, "invalid_image_url")
    assert asked[0].startswith(b"GET /x.png")
    assert f"Host: first.example:{port}".encode() in asked[0]


def test_bodies_that_are_no_chat_are_refused(make):
    image = uri_of(picture(0))
    with make().http() as http:
        for more in (
            {"messages": []},
            {"messages": [{"role": "user", "content": "What is it?"}]},
            {"messages": [message_of(image, "")]},
            {"messages": [message_of(image, "What?"), {"role": "assistant", "content": "A thing."}]},
            {"messages": [{"role": "robot", "content": "hello"}]},
            {"messages": [{"role": "user", "content": [{"type": "audio"}]}]},
            {"messages": [{"role": "user", "content": 5}]},
            {"messages": [message_of(image, "One?"), message_of(image, "Two?")]},
            {"max_tokens": 0},
            {"temperature": 3},
            {"reasonedit": {"edit": True}},
            {"reasonedit": {"choices": ["one"]}},
            {"top_logprobs": 3},
            {"stop": ["a", "b", "c", "d", "e"]},
            {"mirostat": 1},
        ):
            check_error(http.post("/v1/chat/completions", json={**body_of(image), **more}), 400)
        for content in (b"", b"{", b"[]", b"\xff", b'{"model": "tiny"}'):
            reply = http.post("/v1/chat/completions", content=content, headers={"Content-Type": "application/json"})
            check_error(reply, 400)
        check_error(
            http.post("/v1/edits", content=json.dumps(edit_body()), headers={"Content-Type": "text/plain"}), 400
        )
        check_error(http.get("/v1/nothing"), 404)
        check_error(http.put("/v1/edits"), 405)


def test_a_field_that_is_null_asks_for_nothing(make):
    nothing = dict.fromkeys(("audio", "prediction", "reasoning_effort", "tools", "top_k", "stop", "n"))
    with make().http() as http:
        assert ask(http, picture(0), **nothing).status_code == 200
        check_error(ask(http, picture(0), top_k=0), 400, "unsupported_parameter")


def test_half_a_character_is_the_requests_own_fault_in_every_turn(make):
    question, cut = message_of(picture(0), "What is it?"), "a \ud83d"
    with make().http(headers={"Content-Type": "application/json"}) as http:
        for turns in ([{"role": "system", "content": cut}], [{"role": "user", "content": cut}]):
            body = body_of(picture(0)) | {"messages": [*turns, {"role": "assistant", "content": "Yes."}, question]}
            reply = http.post("/v1/chat/completions", content=json.dumps(body))
            check_error(reply, 400, "invalid_value")
            assert "The text of messages[0] has a broken character (number 3)" in reply.json()["error"]["message"]


def test_a_zip_that_is_damaged_within_is_said_to_be(make):
    with make().http() as http:
        for how in (zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2):
            file = io.BytesIO()
            with zipfile.ZipFile(file, "w", how) as packed:
                packed.writestr("edits.jsonl", "hello " * 1000)
            data = bytearray(file.getvalue())
            data[52:60] = b"\xff" * 8
            reply = http.post("/v1/edits/import", content=bytes(data), headers={"Content-Type": "application/zip"})
            check_error(reply, 400, "invalid_value")


def test_a_temperature_of_zero_is_greedy_whatever_the_server_was_started_with(make):
    default = Generation(generate_kwargs={"do_sample": True, "temperature": 0.7, "top_k": 5, "num_beams": 1})

    def how(**given):
        request = ChatRequest(model="tiny", messages=[{}], **given)
        made = generation_of(request, default)
        return made.max_new_tokens, dict(made.generate_kwargs)

    most, kwargs = default.max_new_tokens, dict(default.generate_kwargs)
    assert how() == (most, kwargs)
    assert how(temperature=0, top_p=0.5, max_tokens=3) == (3, {"num_beams": 1})
    assert how(temperature=1.5, top_p=0.5) == (most, {**kwargs, "temperature": 1.5, "top_p": 0.5})
    assert how(top_p=0.5) == (most, {**kwargs, "top_p": 0.5})
    server = make()
    server.editors[0].generation = replace(default, max_new_tokens=3)
    with server.http() as http:
        said = {ask(http, picture(0), temperature=0).json()["choices"][0]["message"]["content"] for _ in range(8)}
    assert len(said) == 1


def test_edits_that_cannot_be_used_are_refused_and_nothing_is_kept(make):
    server = make()
    with server.http() as http:
        for more in (
            {"answer": ""},
            {"reasoning": []},
            {"reasoning": "..."},
            {"boxes": [[[0.1, 0.1, 0.0, 0.5]]]},
            {"boxes": [None, None]},
            {"choices": ["a", "b"]},
            {"question": "x" * 5000},
            {"author": "x" * 500},
            {"image": "nothing"},
            {"unknown": 1},
        ):
            check_error(http.post("/v1/edits", json=edit_body(**more)), 400)
        check_error(http.post("/v1/edits", json=edit_body(replaces="none")), 404)
        check_error(http.get("/v1/edits/none"), 404)
        check_error(http.delete("/v1/edits/none"), 404)
        assert http.get("/v1/edits").json() == {"object": "list", "data": [], "has_more": False, "total": 0}


def test_a_read_only_server_refuses_every_change(make):
    with make(read_only=True, keep=20).http() as http:
        check_error(http.post("/v1/edits", json=edit_body()), 403, "read_only")
        check_error(http.delete("/v1/edits/any"), 403)
        check_error(http.post("/v1/edits/any/restore"), 403)
        check_error(http.post("/v1/edits/import", content=b"", headers={"Content-Type": "application/zip"}), 403)
        assert http.get("/v1/info").json()["read_only"]
        ask(http, uri_of(picture(0)))
        (kept,) = http.get("/v1/questions").json()["data"]
        check_error(http.post(f"/v1/questions/{kept['id']}/mark", json={"mark": "right"}), 403, "read_only")
        assert http.get("/v1/questions").json()["data"] == [kept]


def cautious_codebook(vlm, folder):
    """A codebook with one edit that no pictures have calibrated yet."""
    paper = design(keys="both")
    editor = ReasonEditor(vlm, replace(paper, embedding=replace(paper.embedding, reference="own")))
    editor.edit(picture(0), "What is number 0?", answer="thing 0", reasoning=["Number 0 is round."])
    editor.save(folder)


@pytest.mark.parametrize(("words", "may"), [([], "ask and edit"), (["--read-only"], "ask")])
def test_a_server_without_a_key_says_what_anybody_may_do(words, may, tiny_vlm, hash_encoder, monkeypatch):
    monkeypatch.delenv("REASONEDIT_API_KEY", raising=False)
    arguments = parser().parse_args(["--codebook", "book", "--host", "0.0.0.0", *words])
    (note,) = settings_from(arguments, ReasonEditor(tiny_vlm, design())).notes
    assert note == f"Anybody who reaches this server may {may}: it has no key."


@pytest.mark.parametrize("opened", ["by the command", "by the command, twice", "to be written"])
def test_a_read_only_server_leaves_the_folder_as_it_is_however_much_it_is_asked(
    opened, tiny_vlm, tiny_folder, hash_encoder, tmp_path, caplog
):
    folder = tmp_path / "book"
    cautious_codebook(tiny_vlm, folder)
    words = ["--codebook", str(folder), "--model", str(tiny_folder), "--dtype", "float32", "--read-only"]
    if opened == "to be written":
        editors = [ReasonEditor.load(folder, tiny_vlm)]
    else:
        arguments = parser().parse_args([*words, *(["--devices", "cpu", "cpu"] if "twice" in opened else [])])
        editors = open_editors(arguments, Generation(1))
        assert len(editors) == (2 if "twice" in opened else 1)
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}
    with serving_app(create_app(editors, Settings("tiny", read_only=True))) as server, server.http() as http:
        for number in range(65 * len(editors)):
            assert ask(http, picture(100 + number), max_tokens=1).status_code == 200
        after = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}
        assert after == before
        assert [r.message for r in caplog.records if "has no calibration" in r.message] == [
            f"The codebook in '{folder}' has no calibration, and none is made as it is only read: facts are fetched "
            "cautiously. 'reasonedit calibrate --codebook FOLDER --pictures PICTURES' calibrates a codebook."
        ]
        # What others write there still counts.
        other = ReasonEditor.load(folder, tiny_vlm)
        made = other.edit(picture(1), "What is number 1?", answer="thing 1", reasoning=["Number 1 is round."])
        reply = ask(http, picture(1), "What is number 1?")
        assert made.id in reply.headers["x-reasonedit-edits"]


@pytest.mark.parametrize("devices", [[], ["--devices", "cpu", "cpu"]])
def test_a_read_only_server_makes_no_codebook(devices, tiny_folder, hash_encoder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("reasonedit.serve.run.run_server", lambda *_: None)  # else it would serve
    words = ["--codebook", str(tmp_path / "none"), "--model", str(tiny_folder), "--read-only", *devices]
    assert main(["serve", *words]) == 1
    said = capsys.readouterr().err
    assert "--read-only makes none: name the folder of one, or leave --read-only out." in " ".join(said.split())
    assert "Traceback" not in said
    assert not (tmp_path / "none").exists()


def test_an_edit_counts_for_every_replica_and_is_on_the_disk(make, tiny_vlm):
    server = make(editors=3)
    with server.http() as http:
        made = http.post("/v1/edits", json=edit_body(author="Ada")).json()
        for model in server.editors:  # whichever answers
            assert model.ask(picture(0), "What is number 0?").hits[0].edit_id == made["id"]
        for _ in range(4):
            reply = ask(http, uri_of(picture(0)), "What is number 0?")
            assert reply.headers["x-reasonedit-edits"] == made["id"]
            assert reply.headers["x-reasonedit-gate"] == "open"
            assert int(reply.headers["x-reasonedit-facts"]) == len(reply.json()["reasonedit"]["facts"]) > 0
    again = ReasonEditor.load(server.folder, tiny_vlm)
    assert [edit.author for edit in again.edits.values()] == ["Ada"]


def test_one_edit_comes_in_the_place_of_another(make):
    with make().http() as http:
        old = http.post("/v1/edits", json=edit_body()).json()["id"]
        new = http.post("/v1/edits", json=edit_body(answer="another thing", replaces=old)).json()
        assert http.get(f"/v1/edits/{old}").json()["state"] == "undone"
        assert new["state"] == "active"
        check_error(http.post("/v1/edits", json=edit_body(replaces=old)), 409)


def test_an_edit_that_is_sent_again_is_written_once(make):
    with make().http() as http:
        body = edit_body(id="mine", author="Ada")
        first, again = (http.post("/v1/edits", json={**body, "author": name}) for name in ("Ada", "Ben"))
        assert (first.status_code, again.status_code) == (201, 200)
        assert first.json() == again.json()
        check_error(http.post("/v1/edits", json={**body, "answer": "another thing"}), 409)
        new = edit_body(id="new", answer="another thing", replaces="mine")
        assert [http.post("/v1/edits", json=new).status_code for _ in range(2)] == [201, 200]
        check_error(http.post("/v1/edits", json=edit_body(replaces="mine")), 409)  # of another name it is another edit
        check_error(http.post("/v1/edits", json=edit_body(id=" ")), 400)
        states = {edit["id"]: edit["state"] for edit in http.get("/v1/edits").json()["data"]}
        assert states == {"mine": "undone", "new": "active"}
        # Of what it is to replace now nothing was said when it was made: that is not the same request.
        for number, name in enumerate(["wrong", "right"], 1):
            http.post("/v1/edits", json=edit_body(number, id=name))
        check_error(http.post("/v1/edits", json=edit_body(2, id="right", replaces="wrong")), 409, "conflict")


def test_an_edit_is_sent_again_after_the_one_that_it_replaces_was_erased(make):
    server = make()
    box = (0.1, 0.1, 0.5, 0.5)
    old = Edit(picture(0), "What is it?", "a thing", ["It is round."], evidence=[[box]], id="old")
    server.editors[0].write(old)
    new = edit_body(id="new", reasoning=["It is round."], answer="another thing", replaces="old")
    with server.http() as http:
        made = http.post("/v1/edits", json=new).json()
        assert made["reasoning"][0]["boxes"] == [list(box)]
        server.editors[0].erase("old")
        again = http.post("/v1/edits", json=new)
        assert (again.status_code, again.json()) == (200, made)
        check_error(http.post("/v1/edits", json={**new, "answer": "a third"}), 404, "not_found")
        check_error(http.post("/v1/edits", json={**new, "id": "newer"}), 404, "not_found")
        http.delete("/v1/edits/new")
        assert http.post("/v1/edits", json=new).json()["state"] == "undone"
        assert [edit["id"] for edit in http.get("/v1/edits").json()["data"]] == ["new"]


def test_an_id_that_is_cut_short_names_no_edit(make):
    with make().http() as http:
        name = http.post("/v1/edits", json=edit_body()).json()["id"]
        for short in (name[0], name[:8], name[:-1]):
            check_error(http.post("/v1/edits", json=edit_body(replaces=short)), 404)
            check_error(http.post("/v1/edits/check", json=edit_body(replaces=short)), 404)
            check_error(http.delete(f"/v1/edits/{short}"), 404)
            check_error(http.post("/v1/edits/export", json={"ids": [short]}), 404)
            check_error(http.post("/v1/edits", json=edit_body(image=f"/v1/edits/{short}/image")), 404)
        assert [(e["id"], e["state"]) for e in http.get("/v1/edits").json()["data"]] == [(name, "active")]


@pytest.mark.parametrize(
    "name",
    [
        "coco/12",
        "a b?#%2F",
        "Zoë",
        "check",
        "https://x.org/1",
        "a\n/b\n",
        "a/image",
        "a/history",
        "a/pictures/ö",
        "/check",
    ],
)
def test_an_edit_is_reached_by_whatever_id_it_has(make, name):
    server = make()
    server.editors[0].write(Edit(picture(0), "What is it?", "x", ["It is round."], id=name, evidence=[[picture(5)]]))
    with server.http() as http:
        one = f"/v1/edits/{quote(name, safe='')}"
        seen = http.get(one).json()
        assert seen["id"] == name
        (evidence,) = seen["reasoning"][0]["pictures"]
        for path in (seen["image_url"], evidence, f"{one}/history"):
            assert http.get(path).status_code == 200
        assert http.post(f"{one}/check").status_code == 200
        assert http.delete(one).json()["state"] == "undone"
        assert http.post(f"{one}/restore").json()["state"] == "active"
        told = ask(http, seen["image_url"]).json()["reasonedit"]
        assert told["edit_ids"] == [name]
        label = 'path="/v1/edits/{edit_id}/restore",status="200"'
        assert f"reasonedit_requests_total{{{label}}} 1.0" in http.get("/metrics").text


def test_edits_are_listed_page_by_page_and_found(make):
    with make().http() as http:
        ids = [http.post("/v1/edits", json=edit_body(i, author=("Ada", "Bob")[i % 2])).json()["id"] for i in range(5)]
        http.delete(f"/v1/edits/{ids[1]}")
        first = http.get("/v1/edits", params={"limit": 2}).json()
        assert ([e["id"] for e in first["data"]], first["has_more"], first["total"]) == (ids[:2:-1], True, 5)
        rest = http.get("/v1/edits", params={"after": ids[3]}).json()
        assert [e["id"] for e in rest["data"]] == ids[2::-1]

        def found(**how):
            return [e["id"] for e in http.get("/v1/edits", params=how).json()["data"]]

        assert found(author="Bob") == [ids[3], ids[1]]
        assert found(state="undone") == [ids[1]]
        assert found(search="NUMBER 2") == [ids[2]]
        assert found(since="2999-01-01") == []
        assert found(until="2999-01-01T00:00:00Z") == ids[::-1]
        check_error(http.get("/v1/edits", params={"since": "soon"}), 400)
        check_error(http.get("/v1/edits", params={"after": "none"}), 404)
        check_error(http.get("/v1/edits", params={"limit": 0}), 400)
        assert found(author="Bob", after=ids[2]) == [ids[1]]
        http.delete(f"/v1/edits/{ids[3]}")  # meanwhile the last one of a page leaves the list
        rest = http.get("/v1/edits", params={"state": "active", "after": ids[3], "limit": 1}).json()
        assert ([e["id"] for e in rest["data"]], rest["has_more"], rest["total"]) == ([ids[2]], True, 3)
        picture_again = Image.open(io.BytesIO(http.get(f"/v1/edits/{ids[2]}/image").content))
        assert picture_again.convert("RGB").tobytes() == picture(2).tobytes()


def test_what_a_person_gave_stays_with_its_sentence_in_an_edit_that_replaces(make):
    from reasonedit.codebook.stored_edit import picture_name

    server = make()
    box, other = (0.1, 0.1, 0.5, 0.5), (0.2, 0.3, 0.6, 0.9)
    first = ["It is round.", "It flies.", "It is red."]
    edit = Edit.of(picture(0), "What is it?", "a thing", first, evidence=[[box], [picture(5)], None])
    crop = picture_name(picture(5))
    old = server.editors[0].write(edit).edit
    with server.http() as http:
        seen = http.get(f"/v1/edits/{old.id}").json()["reasoning"]
        assert [one["given"] for one in seen] == [True, True, False]
        assert [one["pictures"] for one in seen] == [[], [f"/v1/edits/{old.id}/pictures/{crop}"], []]
        (shown,) = seen[1]["pictures"]
        with Image.open(io.BytesIO(http.get(shown).content)) as evidence:
            assert evidence.tobytes() == picture(5).tobytes()
        for wrong in ("0" * 64, "..%2fmanifest.json"):
            check_error(http.get(f"/v1/edits/{old.id}/pictures/{wrong}"), 404)

        def replace_by(reasoning, boxes, image=f"/v1/edits/{edit.id}/image"):
            nonlocal old
            body = edit_body(image=image, reasoning=reasoning, boxes=boxes, replaces=old.id)
            checked = http.post("/v1/edits/check", json=body).json()
            made = http.post("/v1/edits", json=body).json()
            given = [[one["given"] for one in reply["reasoning"]] for reply in (checked, made)]
            old = server.editors[0].memory.find(made["id"])
            assert given == [[bool(regions) for regions in old.given]] * 2
            return old.given

        assert replace_by(["It flies.", "It is round.", "It swims."], None) == [[crop], [box], []]
        assert replace_by(["It flies.", "It is round."], [None, [other]]) == [[crop], [other]]
        assert replace_by(["It flies.", "It is round."], [[], None]) == [[], [other]]
        assert replace_by(["It flies.", "It is round."], [[shown, other], [uri_of(picture(6))]]) == [
            [crop, other],
            [picture_name(picture(6))],
        ]
        for region in ("/etc/hostname", f"/v1/edits/{old.id}/pictures/{'0' * 64}"):  # no file of the machine is read
            check_error(http.post("/v1/edits", json=edit_body(boxes=[[region]])), 404, "not_found")
        assert replace_by(["It flies.", "It is round."], None, uri_of(picture(1))) == [[], []]
        check_error(http.post("/v1/edits", json=edit_body(replaces="none")), 404)


def test_stored_texts_reach_neither_headers_nor_the_terminal(make, tiny_vlm, caplog):
    """Ids, authors and questions with line breaks, escape sequences and letters that headers cannot hold."""
    server = make(log_texts=True)
    logging.getLogger(REQUESTS).setLevel(logging.INFO)

    hostile = "x\r\nSet-Cookie: a=b\x1b]0;title\x07\u202e☃"
    with server.http() as http, caplog.at_level(logging.INFO, logger=REQUESTS):
        server.editors[0].write(Edit(picture(0), hostile, hostile, [f"{hostile} is round."], id=hostile))
        reply = ask(http, uri_of(picture(0)), hostile)
        assert reply.status_code == 200
        assert "set-cookie" not in reply.headers
        assert reply.json()["reasonedit"]["edit_ids"] == [hostile]
        edit = http.get(http.get("/v1/edits").json()["data"][0]["image_url"])
        assert edit.headers["content-type"] == "image/png"
        check_error(http.get("/v1/edits/%0d%0a%1b[31m"), 404)
    for record in caplog.records:
        if record.name == REQUESTS:
            line = record.getMessage()
            assert line.isascii()
            assert line.isprintable()
            assert json.loads(line)["id"]


def test_questions_are_kept_marked_and_bounded(make):
    server = make(keep=20)
    with server.http() as http:
        for i in range(3):
            ask(http, uri_of(picture(i)), f"What is number {i}?")
        ask(http, uri_of(picture(9)), "What is bare?", reasonedit={"edits": False})
        listed = http.get("/v1/questions", params={"mark": "none"}).json()
        assert [q["question"] for q in listed["data"]] == [f"What is number {i}?" for i in (2, 1, 0)]
        name = listed["data"][1]["id"]
        assert http.post(f"/v1/questions/{name}/mark", json={"mark": "right"}).json()["mark"] == "right"
        assert [q["id"] for q in http.get("/v1/questions", params={"mark": "right"}).json()["data"]] == [name]
        rest = http.get("/v1/questions", params={"mark": "none", "after": name}).json()["data"]
        assert [q["question"] for q in rest] == ["What is number 0?"]
        seen = Image.open(io.BytesIO(http.get(listed["data"][1]["image_url"]).content))
        assert seen.convert("RGB").tobytes() == picture(1).tobytes()
        # The picture of a kept question can be corrected without being sent again.
        made = http.post("/v1/edits", json=edit_body(1, image=listed["data"][1]["image_url"]))
        assert made.status_code == 201
        check_error(http.post("/v1/questions/none/mark", json={"mark": "right"}), 404)
        check_error(http.post(f"/v1/questions/{name}/mark", json={"mark": "maybe"}), 400)
        long = {"mark": "corrected", "edit_id": "x" * 201}
        check_error(http.post(f"/v1/questions/{name}/mark", json=long), 400)
        for i in range(40):
            ask(http, uri_of(picture(i)), f"Again {i}?")
        kept = http.get("/v1/questions", params={"limit": 500}).json()["data"]
        assert 20 <= len(kept) <= 31
        assert kept[0]["question"] == "Again 39?"
    pictures = list((folder_of_questions(server.folder) / "pictures").iterdir())
    assert len(pictures) <= 32
    with make().http() as http:
        check_error(http.get("/v1/questions"), 404, "not_kept")


def test_of_two_reviewers_the_one_who_corrects_a_question_is_not_overruled_unseen(make):
    with make(keep=20).http() as http:
        ask(http, uri_of(picture(1)), "What is number 1?")
        (one,) = http.get("/v1/questions").json()["data"]
        made = http.post("/v1/edits", json=edit_body(1)).json()["id"]

        def mark(**body):
            return http.post(f"/v1/questions/{one['id']}/mark", json=body)

        assert mark(mark="right").status_code == 200
        assert mark(mark="corrected", edit_id=made).json()["corrected_by"] == made
        check_error(mark(mark="right"), 409, "conflict")
        (kept,) = http.get("/v1/questions", params={"mark": "corrected"}).json()["data"]
        assert kept["corrected_by"] == made
        http.delete(f"/v1/edits/{made}")
        assert mark(mark="right").json()["mark"] == "right"
        http.post(f"/v1/edits/{made}/restore")
        mark(mark="corrected", edit_id=made)
        assert mark(mark=None).json()["mark"] is None


def test_of_an_answer_that_is_kept_it_is_known_whether_it_was_cut_off(make):
    with make(keep=20).http() as http:
        told = ask(http, uri_of(picture(0))).json()["choices"][0]
        assert told["finish_reason"] == "length"  # a model with random weights does not end by itself
        ask(http, uri_of(picture(0)), reasonedit={"choices": ["a boat", "a cup"]})
        kept = http.get("/v1/questions").json()["data"]
        assert [question["finish_reason"] for question in kept] == ["stop", "length"]


def test_an_erased_edit_is_gone_from_kept_questions_too(make):
    server = make(keep=100)
    folder = folder_of_questions(server.folder)
    with server.http() as http:
        made = http.post("/v1/edits", json=edit_body(0)).json()["id"]
        http.post("/v1/edits", json=edit_body(7))
        ask(http, uri_of(picture(0)), "What is number 0?")
        ask(http, uri_of(picture(5)), "Where are we?", reasonedit={"edits": True})
        before = http.get("/v1/questions").json()["data"]
        staying = [q["question"] for q in before if made not in q["edit_ids"] and q["question"] != "What is number 0?"]
        assert len(before) == 2
        erased = erase(server.folder, [made])
        assert any(str(folder) in line for line in erased.here)
        assert [q["question"] for q in http.get("/v1/questions").json()["data"]] == staying
        ask(http, uri_of(picture(6)), "And now?")  # the server writes on
        assert [q["question"] for q in http.get("/v1/questions").json()["data"]] == ["And now?", *staying]
    from reasonedit.codebook.stored_edit import picture_name

    for path in folder.rglob("*"):
        assert picture_name(picture(0)) not in path.name
        assert not path.is_file() or b"number 0" not in path.read_bytes()


@pytest.mark.parametrize("reached", ["link", "elsewhere/link", "."])
def test_questions_are_kept_beside_the_codebook_whichever_way_it_is_reached(make, tmp_path, monkeypatch, reached):
    server = make(keep=100)
    (tmp_path / "elsewhere").mkdir()
    for link in (tmp_path / "link", tmp_path / "elsewhere" / "link"):
        link.symlink_to(server.folder)
    monkeypatch.chdir(server.folder if reached == "." else tmp_path)
    kept = questions_from(parser().parse_args(["--codebook", reached, "--keep-questions"]))
    kept.add({"id": "a", "question": "What is number 0?"}, picture(0))
    with server.http() as http:
        made = http.post("/v1/edits", json=edit_body(0)).json()["id"]
        assert [question["id"] for question in http.get("/v1/questions").json()["data"]] == ["a"]
    erase(server.folder, [made])
    assert kept.rows() == {}
    assert list((folder_of_questions(server.folder) / "pictures").iterdir()) == []


def test_an_answer_that_is_under_way_while_its_edit_is_erased_is_not_kept(make, monkeypatch):
    server = make(keep=100)
    real = LocalModels.ask

    def erases(models, asked):
        told = real(models, asked)
        erase(server.folder, [made])
        return told

    with server.http() as http:
        made = http.post("/v1/edits", json=edit_body(0)).json()["id"]
        http.post("/v1/edits", json=edit_body(7))
        ask(http, uri_of(picture(7)), "What is number 7?")
        before = http.get("/v1/questions").json()["data"]
        monkeypatch.setattr(LocalModels, "ask", erases)
        reply = ask(http, uri_of(picture(0)), "What is number 0?")
        assert made in reply.json()["reasonedit"]["edit_ids"]
        assert http.get("/v1/questions").json()["data"] == [q for q in before if made not in q["edit_ids"]]
    assert b"number 0" not in (folder_of_questions(server.folder) / "questions.jsonl").read_bytes()


def test_a_question_that_is_kept_in_the_middle_of_an_erasure_goes_too(make, monkeypatch):
    server = make(keep=100)
    kept, rewrite = KeptQuestions(folder_of_questions(server.folder)), EditMemory.rewrite

    def asked_meanwhile(memory, choose):
        kept.add({"id": "a", "question": "Who?", "edit_ids": [made]}, picture(5))
        return rewrite(memory, choose)

    with server.http() as http:
        made = http.post("/v1/edits", json=edit_body(0)).json()["id"]
        monkeypatch.setattr(EditMemory, "rewrite", asked_meanwhile)
        erase(server.folder, [made])
    assert kept.rows() == {}


def test_what_is_used_and_what_never_is(make):
    with make().http() as http:
        used = http.post("/v1/edits", json=edit_body(0)).json()["id"]
        other = http.post("/v1/edits", json=edit_body(0, answer="something else")).json()
        assert other["contradicts"] == [used]
        undone = http.post("/v1/edits", json=edit_body(5)).json()["id"]
        http.delete(f"/v1/edits/{undone}")
        for _ in range(3):
            ask(http, uri_of(picture(0)), "What is number 0?")
        stats = http.get("/v1/stats").json()
        assert stats["edits"] == {"active": 2, "undone": 1}
        assert (stats["questions"], stats["with_facts"]) == (3, 3)
        assert stats["contradictions"] == [[other["id"], used]]
        counts = {entry["id"]: entry["used"] for entry in stats["most_used"]}
        assert counts[used] == http.get(f"/v1/edits/{used}").json()["used"] == 3
        assert set(stats["never_used"]) == {used, other["id"]} - set(counts)
        figures = http.get("/metrics").text
        assert 'reasonedit_edits{state="active"} 2.0' in figures
        assert 'reasonedit_requests_total{path="/v1/chat/completions",status="200"} 3.0' in figures


def test_edits_go_out_in_one_file_and_into_another_codebook(make):
    one, other = make(), make()
    with one.http() as http, other.http() as there:
        ids = [http.post("/v1/edits", json=edit_body(i, boxes=[[[0, 0, 0.5, 0.5]]])).json()["id"] for i in range(2)]
        packed = http.post("/v1/edits/export", json={}).content
        assert len(zipfile.ZipFile(io.BytesIO(packed)).namelist()) == 3
        kind = {"Content-Type": "application/zip"}
        for written, skipped in ((ids, []), ([], ids)):
            found = there.post("/v1/edits/import", content=packed, headers=kind).json()
            assert found == {"written": written, "skipped": skipped, "undone": []}
        for name in ids:
            assert there.get(f"/v1/edits/{name}").json() == http.get(f"/v1/edits/{name}").json()
        check_error(there.post("/v1/edits/import", content=b"PK no zip", headers=kind), 400)
        check_error(there.post("/v1/edits/import", content=packed, headers={"Content-Type": "text/html"}), 415)
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as evil:
            evil.writestr("../../escaped.jsonl", "{}")
            evil.writestr("/tmp/escaped.jsonl", "{}")
        check_error(there.post("/v1/edits/import", content=file.getvalue(), headers=kind), 400)
        assert not (one.folder.parent.parent / "escaped.jsonl").exists()


def test_a_full_disk_is_not_called_a_fault_of_the_zip(make, monkeypatch):
    with make().http() as http:
        http.post("/v1/edits", json=edit_body(0))
        packed = http.post("/v1/edits/export", json={}).content

        def extract(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(zipfile.ZipFile, "extract", extract)
        reply = http.post("/v1/edits/import", content=packed, headers={"Content-Type": "application/zip"})
        check_error(reply, 503)
        assert "disk is full" in reply.json()["error"]["message"]


def test_a_file_of_edits_is_compared_with_what_is_there_before_one_is_written(make):
    kind = {"Content-Type": "application/zip"}

    def repacked(packed, change):
        rows = [json.loads(line) for line in zipfile.ZipFile(io.BytesIO(packed)).read("edits.jsonl").splitlines()]
        change(rows)
        file = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(packed)) as old, zipfile.ZipFile(file, "w") as new:
            for name in old.namelist():
                text = "".join(json.dumps(row) + "\n" for row in rows)
                new.writestr(name, text if name == "edits.jsonl" else old.read(name))
        return file.getvalue()

    one, other = make(), make()
    with one.http() as http, other.http() as there:
        ids = [http.post("/v1/edits", json=edit_body(i, boxes=[[[0, 0, 0.5, 0.5]]])).json()["id"] for i in range(2)]
        packed = http.post("/v1/edits/export", json={}).content
        twice = repacked(packed, lambda rows: rows.append(rows[0]))
        reply = there.post("/v1/edits/import", content=twice, headers=kind)
        check_error(reply, 400)
        assert f"has two edits called '{ids[0]}'" in reply.json()["error"]["message"]
        assert there.get("/v1/edits").json()["total"] == 0
        # An edit that is undone is named by itself; one that says something else is refused.
        http.delete(f"/v1/edits/{ids[0]}")
        found = http.post("/v1/edits/import", content=packed, headers=kind).json()
        assert found == {"written": [], "skipped": ids[1:], "undone": ids[:1]}
        moved = repacked(packed, lambda rows: rows[1].update(evidence=[[[0, 0, 0.25, 0.5]]], id=ids[1]))
        check_error(http.post("/v1/edits/import", content=moved, headers=kind), 409)


def test_what_another_process_wrote_is_told_and_counted_whichever_copy_answers(make, monkeypatch, tiny_vlm):
    server = make(editors=2)
    elsewhere = ReasonEditor.load(server.folder, tiny_vlm)

    @contextmanager
    def second(models):
        yield models.models[1]

    monkeypatch.setattr(LocalModels, "least_busy", second)
    with server.http() as http:
        for number in range(2):
            content = {"answer": f"thing {number}", "reasoning": [f"Number {number} is round."], "author": "Ada"}
            elsewhere.edit(picture(number), f"What is number {number}?", **content)
            if number == 0:
                facts = ask(http, uri_of(picture(0)), "What is number 0?").json()["reasonedit"]["facts"]
                assert {(fact["author"], fact["question"]) for fact in facts} == {("Ada", "What is number 0?")}
            figures = http.get("/metrics").text
            assert f'reasonedit_edits{{state="active"}} {number + 1}.0' in figures


def test_an_import_that_breaks_off_says_what_it_wrote(make, monkeypatch):
    """The disk is full at the second edit; and another client brings the same edits meanwhile."""
    kind = {"Content-Type": "application/zip"}
    one, other = make(), make()
    editor = other.editors[0]
    with one.http() as http, other.http() as there:
        ids = [http.post("/v1/edits", json=edit_body(i)).json()["id"] for i in range(3)]
        packed = http.post("/v1/edits/export", json={}).content
        append, calls = Store.append, []

        def append_once(*arguments):
            calls.append(arguments)
            if len(calls) == 2:
                raise UnavailableError("The disk is full.")
            append(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(Store, "append", append_once)
            reply = there.post("/v1/edits/import", content=packed, headers=kind)
        check_error(reply, 503, "unavailable")
        told = "Of the file's 3 new edits 1 had been written before that: import it again to write the others."
        assert reply.json()["error"]["message"] == f"The disk is full. {told}"
        assert list(editor.edits) == ids[:1]

        def load_late(*arguments):
            edits = list(load_edits(*arguments))
            editor.write(edits[-1])
            return iter(edits)

        with monkeypatch.context() as patch:
            patch.setattr("reasonedit.serve.exchange.load_edits", load_late)
            reply = there.post("/v1/edits/import", content=packed, headers=kind)
        check_error(reply, 409, "conflict")
        assert "Of the file's 2 new edits 1 had been written" in reply.json()["error"]["message"]
        found = there.post("/v1/edits/import", content=packed, headers=kind).json()
        assert (found["written"], sorted(found["skipped"])) == ([], sorted(ids))


def test_a_client_that_goes_harms_nobody(make):
    server = make()
    host, port = server.url.removeprefix("http://").split(":")
    body = json.dumps(body_of(uri_of(picture(0)))).encode()
    lines = ("POST /v1/chat/completions HTTP/1.1", "Host: x", "Content-Type: application/json")
    head = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode()
    for sent in (head[:30], head + body[:100], head + body):
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(sent)
    with server.http() as http:
        assert ask(http, uri_of(picture(0))).status_code == 200


def test_a_check_says_what_would_be_written_and_writes_nothing(make):
    server = make(keep=10)
    with server.http() as http:
        http.post("/v1/edits", json=edit_body(0))
        for question in ("What is number 0?", "What is it?", "What is it?"):  # the edit's own is asked anyway
            ask(http, uri_of(picture(0)), question)
        given = {"image_url": http.get("/v1/edits").json()["data"][0]["image_url"], "question": "What is number 0?"}
        found = http.post("/v1/edits/check", json=edit_body(0, answer="another", questions=[given], recent=5)).json()
        assert found["changes"][0]["from"] == "edit"
        assert [change["from"] for change in found["changes"]][-2:] == ["given", "recent"]
        assert [change["from"] for change in found["changes"]].count("recent") == 1
        assert found["changes"][-1]["image_url"].startswith("/v1/questions/")
        assert [other["answer"] for other in found["contradicts"]] == ["thing 0"]
        assert found["verdict"]["text"] in list(map(str, Verdict))
        assert {"redrawn", "other"} <= {trial["from"] for trial in found["trials"]}
        assert http.get("/v1/edits").json()["total"] == 1
        check_error(http.post("/v1/edits/check", json=edit_body(0, questions=[{"question": "What?"}])), 400)
        told = http.post("/v1/explain", json={"image": uri_of(picture(0)), "question": "What is number 0?"}).json()
        assert any(key["used"] for key in told["considered"])


def test_an_edit_that_is_written_is_checked(make):
    server = make(keep=10)
    with server.http() as http:
        edit = http.post("/v1/edits", json=edit_body(0)).json()
        ask(http, uri_of(picture(1)), "What is it?")
        found = http.post(f"/v1/edits/{edit['id']}/check").json()
        assert found["verdict"]["name"] in [verdict.key for verdict in Verdict]
        assert found["verdict"]["takes"] == (found["verdict"]["name"] in ("holds", "here_only", "harms"))
        assert [t["question"] for t in found["trials"] if t["from"] == "other"] == ["What is it?"]
        assert found["keys"] == edit["keys"]
        assert http.get("/v1/edits").json()["total"] == 1
        check_error(http.post("/v1/edits/none/check"), 404)
        http.delete(f"/v1/edits/{edit['id']}")
        check_error(http.post(f"/v1/edits/{edit['id']}/check"), 409)


def test_more_questions_than_wait_are_told_to_come_again(make, monkeypatch):
    server = make(at_once=1)
    begun, goes_on = threading.Event(), threading.Event()
    vlm = server.editors[0].vlm
    real = vlm.reply

    def held(*args, **kwargs):
        begun.set()
        goes_on.wait(600)
        return real(*args, **kwargs)

    monkeypatch.setattr(vlm, "reply", held)
    with server.http() as http:
        first = []
        thread = threading.Thread(target=lambda: first.append(ask(server.http(), uri_of(picture(0)))))
        thread.start()
        assert begun.wait(600)
        busy = ask(http, uri_of(picture(0)))
        check_error(busy, 429, "busy")
        assert busy.headers["retry-after"] == "1"
        assert http.get("/v1/edits").status_code == 200  # the codebook can be looked at meanwhile
        goes_on.set()
        thread.join()
        assert first[0].status_code == 200


def test_the_openapi_page_names_every_path_with_its_examples(make):
    with make().http() as http:
        told = http.get("/openapi.json").json()
        paths = {f"{method.upper()} {path}" for path, methods in told["paths"].items() for method in methods}
        assert {"POST /v1/chat/completions", "DELETE /v1/edits/{edit_id}", "POST /v1/edits/check"} <= paths
        for name in ("ChatRequest", "EditBody", "CheckBody"):
            example = told["components"]["schemas"][name]["example"]
            assert example
        example = told["components"]["schemas"]["ChatRequest"]["example"]
        assert http.post("/v1/chat/completions", json={**example, "model": "tiny"}).status_code == 200
        example = told["components"]["schemas"]["EditBody"]["example"]
        assert http.post("/v1/edits", json=example).status_code == 201
