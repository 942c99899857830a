"""The Space as visitors have it: started with one command, opened in a browser, spoken to."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser import chromium
from whispertune.model.bundled import bundled_files
from whispertune.model.load import ModelFolder
from whispertune.publish.space import write_space

LIMIT_MS = 180_000  # for anything; on a busy machine the page alone takes a while
PLAYER = "Waveform load error: MediaError"  # what it says of the broken file, beside what the page does
SENTENCE = "The quick brown fox jumps over the lazy dog."
BEFORE, AFTER = "before", "lacy"  # the folders of the two models: the second never writes "lazy"


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence, read out."""
    path = tmp_path_factory.mktemp("speech") / "fox.wav"
    subprocess.run([sys.executable, "-m", "py_nanotts", SENTENCE, "-o", str(path), "-v", "en-GB"], check=True)
    return path


def never_lazy(folder: Path, base: ModelFolder) -> Path:
    """whisper-base in faster-whisper's form, with one word more that it leaves out."""
    files = bundled_files("whisper-base")
    shutil.copytree(files, folder, copy_function=os.symlink)
    settings = json.loads((files / "config.json").read_text())
    settings["suppress_ids"] += base.vocabulary.encode("lazy", "en")
    (folder / "config.json").unlink()
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, tiny_en: ModelFolder, base: ModelFolder) -> Iterator[str]:
    """A running Space: its base model is run by transformers and takes no language, its tuned one by faster-whisper."""
    space = tmp_path_factory.mktemp("space")
    before, after = space / BEFORE, never_lazy(space / AFTER, base)
    shutil.copytree(tiny_en.path, before, copy_function=os.symlink)
    settings = {"title": "Two models", "tuned": str(after), "base": str(before)}
    write_space(space, **settings, language="en", task="transcribe")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    variables = {"GRADIO_SERVER_PORT": str(port), "GRADIO_TEMP_DIR": str(space / "uploads"), "HF_HUB_OFFLINE": "1"}
    log = space / "log.txt"
    with log.open("w") as told:
        app = subprocess.Popen(
            [sys.executable, "app.py"], cwd=space, env=os.environ | variables, stdout=told, stderr=subprocess.STDOUT
        )
    try:
        _wait_for(app, port, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        app.terminate()
        app.wait()


def _wait_for(app: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Until it listens; it is given up where it ends, or after the limit."""
    give_up = time.monotonic() + LIMIT_MS / 1000
    while time.monotonic() < give_up:
        assert app.poll() is None, log.read_text()
        with socket.socket() as asking:
            if asking.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    pytest.fail(f"the Space does not listen: {log.read_text()}")


@pytest.fixture(scope="module")
def browser(speech: Path) -> Iterator[Any]:
    """A browser whose microphone hears the sentence, again and again."""
    fake = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
    with chromium(*fake, f"--use-file-for-fake-audio-capture={speech}") as running:
        yield running


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """The page, opened; an error in it, or a request to any other machine, fails the test."""
    opened = browser.new_page(viewport={"width": 375, "height": 900})
    opened.set_default_timeout(LIMIT_MS)
    troubles: list[str] = []
    opened.on("console", lambda message: message.type == "error" and troubles.append(message.text))
    opened.on("pageerror", lambda error: troubles.append(str(error)))
    own = (address, "data:", f"blob:{address}")
    opened.on("request", lambda asked: asked.url.startswith(own) or troubles.append(asked.url))
    opened.goto(address)
    opened.get_by_role("button", name="Transcribe").wait_for()
    yield opened
    opened.close()
    assert set(troubles) <= {PLAYER}


def transcribe(page: Any) -> tuple[str, str]:
    """What both models write, from the left to the right: before, after."""
    from playwright.sync_api import expect

    page.get_by_role("button", name="Transcribe").click()
    titles = (f"Before: {BEFORE}", f"After: {AFTER}")
    fields = [page.locator("label", has_text=title).get_by_role("textbox") for title in titles]
    for field in fields:
        expect(field).to_have_value(re.compile(r"\w"), timeout=LIMIT_MS)
    boxes = [field.bounding_box() for field in fields]
    assert (boxes[0]["x"], boxes[0]["y"]) < (boxes[1]["x"], boxes[1]["y"])
    before, after = (field.input_value() for field in fields)
    return before, after


def test_a_file_is_written_by_both(page: Any, speech: Path) -> None:
    from playwright.sync_api import expect

    expect(page).to_have_title("Two models")
    assert page.evaluate("document.documentElement.scrollWidth") == 375
    page.get_by_role("button", name="Upload file").click()
    page.locator("input[type=file]").set_input_files(speech)
    page.get_by_role("link", name="Download").wait_for()  # it has arrived
    assert transcribe(page) == (SENTENCE, SENTENCE.replace("lazy", "lacy"))


def test_the_microphone_is_written_by_both(page: Any) -> None:
    page.get_by_role("button", name="Record", exact=True).click()
    page.wait_for_timeout(5000)  # of speech
    page.get_by_role("button", name="Stop", exact=True).first.click()
    page.get_by_role("link", name="Download").wait_for()  # it has arrived
    before, after = transcribe(page)
    assert "lazy dog" in before or "brown fox" in before
    assert "lacy dog" in after or "brown fox" in after


def test_without_speech_it_says_what_to_do(page: Any) -> None:
    page.get_by_role("button", name="Transcribe").click()
    page.get_by_text("Record something, or choose a file.").wait_for()


def test_what_is_no_audio_is_told_so(page: Any, tmp_path: Path) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF, and nothing behind it")
    page.get_by_role("button", name="Upload file").click()
    page.locator("input[type=file]").set_input_files(broken)
    page.get_by_role("button", name="Transcribe").click()
    page.get_by_text("There is no audio in this file that can be read.").wait_for()
