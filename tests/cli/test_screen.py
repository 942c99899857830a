"""What is printed: JSON that every reader reads, and names that are not UTF-8."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from whispertune.cli.screen import print_json
from whispertune.evaluation.tokens import Answers

PRINTS_A_NAME = "import whispertune.cli as cli; cli.main = lambda: print('run\\udce9') or 0; cli.run()"


def test_one_loss_that_is_not_finite_spoils_no_json(capsys: pytest.CaptureFixture[str]) -> None:
    values = np.array([0.1, np.nan])
    answers = Answers(values, values, np.array([0.9, np.nan]), np.array([True, False]))
    scores = answers.tally([[("hej", 1), ("<|endoftext|>", 1)]]).scores()
    print_json({"tokens": scores.as_json()})
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)["tokens"]
    assert (found["loss"], found["accuracy"], found["tokens"]) == (None, 50.0, 2)
    assert [each["loss"] for each in found["words"]] == [0.1, None]


def test_json_with_a_name_that_is_not_utf_8_is_printed(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    name = os.fsdecode(b"run\xe9")
    print_json({"run": name})
    assert json.loads(capsysbinary.readouterr().out.decode("utf-8")) == {"run": name}


def test_a_name_that_is_not_utf_8_ends_no_command() -> None:
    environment = os.environ | {"PYTHONIOENCODING": "utf-8"}
    done = subprocess.run([sys.executable, "-c", PRINTS_A_NAME], env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, b"run\\udce9" + os.linesep.encode())
