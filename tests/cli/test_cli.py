"""The commands as users meet them: what they print, where, and their exit codes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from whispertune.cli import main
from whispertune.cli.screen import step_figures
from whispertune.data.captions import read_captions
from whispertune.model.load import ModelFolder
from whispertune.reporting import StepReport
from whispertune.score.wer import read_utterances

PROMISED = {
    *("rows", "audio_seconds", "seconds", "engine", "wer", "wer_interval", "cer", "wer_normalized"),
    *("cer_normalized", "substitutions", "deletions", "insertions", "normalizer"),
}


COMMAND = [sys.executable, "-m", "whispertune"]

Capture = pytest.CaptureFixture[str]


def run(*arguments: object) -> int:
    """The exit code of a command, in this process."""
    return main([*map(str, arguments)])


def told(capfd: Capture, *arguments: object) -> dict[str, Any]:
    """What a command prints with --json."""
    capfd.readouterr()
    assert run(*arguments, "--json") == 0
    return only_json(capfd.readouterr().out)


def only_json(printed: str) -> dict[str, Any]:
    (line,) = printed.splitlines()  # nothing else on stdout
    found: dict[str, Any] = json.loads(line)
    return found


def test_evaluate_prints_what_it_promises(english_read: Path, capfd: Capture) -> None:
    found = told(capfd, "evaluate", "bundled:whisper-tiny.en", english_read)
    assert found.keys() >= PROMISED
    assert (found["rows"], found["engine"]) == (3, "ctranslate2")
    assert found["wer_normalized"] < 10  # read English, as good as solved
    assert found["wer"] == pytest.approx(found["substitutions"] + found["deletions"] + found["insertions"])
    low, high = found["wer_interval"]
    assert low <= found["wer"] <= high


def test_a_context_that_was_not_trained_is_warned_of(tiny: ModelFolder, noises: Path) -> None:
    """By a process of its own: whatever libraries print when they load, stdout has the figures alone."""
    command = [*COMMAND, "evaluate", str(tiny.path), str(noises / "dev"), "--language", "sv", "--context", "fit"]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert only_json(done.stdout)["context"] == "fit"
    assert "many more errors" in done.stderr


def test_the_figures_of_a_step_fit_a_screen() -> None:
    report = StepReport(29, 30, 0.9, 0.1, 2.345, 1e-4, 0.512, 6, 16, 300, 50.0, 1.0, 0, 123.4, 754.0, 0.02, 0.12, 0)
    figures = step_figures(report)
    assert figures == ("loss 2.345 · lr 1.0e-04 · grad 0.51 · 123 h speech/h · waiting 2 % · dev 12 % · 12:34 left")
    assert "2 skipped" in step_figures(replace(report, skipped=2))


def test_both_engines_agree(english_read: Path, tmp_path: Path) -> None:
    written = []
    for engine in ("ctranslate2", "transformers"):
        out = tmp_path / f"{engine}.jsonl"
        assert run("evaluate", "bundled:whisper-tiny.en", english_read, "--engine", engine, "--out", out) == 0
        written.append([each.hypothesis for each in read_utterances(out)])
    assert written[0] == written[1]


def begun(folder: Path, tiny: ModelFolder, noises: Path) -> Path:
    """The recipe that init writes for the random model and noise."""
    data = ("--data", noises / "train", "--dev", noises / "dev", "--language", "sv", "--model", tiny.path)
    assert run("init", folder, *data) == 0
    return folder / "recipe.toml"


def test_from_init_to_export(tiny: ModelFolder, noises: Path, tmp_path: Path, capfd: Capture) -> None:
    """The commands in a row, on a model that knows nothing, so quickly."""
    folder = tmp_path / "my-run"
    recipe = begun(folder, tiny, noises)
    assert "whispertune train" in capfd.readouterr().out
    settings = ("train.epochs=1", "evaluation.times=1", "windows.fit_share=0.5", "evaluation.verify_clips=2")
    trained = told(capfd, "train", recipe, *settings)
    assert trained["run"] == str(folder)
    assert trained["steps"] == 1
    assert trained.keys() >= {"seconds", "seconds_training", "seconds_evaluating", "utterances_per_second"}
    for side in ("base", "tuned"):
        assert trained[side].keys() >= PROMISED | {"split"}
        assert trained[side]["split"] == "dev"
    assert (trained["base"]["biased_by_selection"], trained["tuned"]["biased_by_selection"]) == (False, True)
    for context, name in (("full", "tuned"), ("auto", "tuned_fit")):  # half of its steps were trained so
        evaluated = told(capfd, "evaluate", folder, noises / "dev", "--context", context)
        assert evaluated["wer"] == pytest.approx(trained[name]["wer"])
        assert evaluated["context"] == trained[name]["context"]
    exported = told(capfd, "export", folder, "--to", "ct2", "--out", tmp_path / "deployed")
    assert exported["verified"] is True
    assert exported["wer_apart"] <= 0.5
    assert run("export", folder, "--to", "ct2", "--out", tmp_path / "deployed") == 2  # in use
    assert run("train", recipe) == 2
    assert "already begun" in capfd.readouterr().err


def test_a_stopped_run_exits_with_3_and_can_be_resumed(
    tiny: ModelFolder, noises: Path, tmp_path: Path, capfd: Capture
) -> None:
    folder = tmp_path / "my-run"
    recipe = begun(folder, tiny, noises)
    settings = ["train.steps=30", "train.step_segments=4", "evaluation.times=1", "evaluation.verify_clips=0"]
    process = subprocess.Popen([*COMMAND, "train", str(recipe), *settings], stderr=subprocess.PIPE, text=True)
    metrics = folder / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not metrics.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 3, errors
    assert "Traceback" not in errors
    assert f"whispertune train {folder / 'resolved.toml'} --out {folder} --resume" in errors
    resumed = told(capfd, "train", folder / "resolved.toml", "--out", folder, "--resume")
    assert resumed["steps"] == 30
    steps = [json.loads(line)["step"] for line in metrics.read_text().splitlines() if '"kind": "step"' in line]
    assert steps == list(range(1, 31))


@pytest.mark.parametrize(
    ("sent", "code", "told"),
    [(signal.SIGINT, 3, "whispertune: stopped"), (signal.SIGSEGV, -signal.SIGSEGV, "Fatal Python error: Segmentation")],
)
def test_ctrl_c_is_no_success_and_a_crash_is_not_silent(
    sent: signal.Signals, code: int, told: str, tiny: ModelFolder, mboshi: Path
) -> None:
    process = subprocess.Popen(
        [*COMMAND, "evaluate", str(tiny.path), str(mboshi / "dev"), "--language", "ln", "--context", "fit"],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  # background shells ignore it
    )
    assert process.stderr is not None
    assert "many more errors" in process.stderr.readline()  # said before the rows are read
    process.send_signal(sent)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == code
    assert told in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["evaluate", "no-such-model", "."], "no model 'no-such-model'"),
        (["evaluate", "bundled:whisper-base", "nowhere"], "nowhere"),
        (["train", "nowhere.toml"], "whispertune init"),
        (["evaluate", "bundled:whisper-base", ".", "--engine", "abacus"], "one of ctranslate2, transformers"),
        (["export", "bundled:whisper-base", "--to", "cassette", "--out", "x", "--no-verify"], "one of ct2"),
        (["transcribe", "nowhere.mp3", "--model", "bundled:whisper-base", "--format", "docx"], "one of vtt"),
        (["transcribe", "a/x.wav", "b/x.wav", "--model", "bundled:whisper-base", "--out", "o"], "the same file"),
        (["transcribe", __file__, "--model", "bundled:whisper-tiny.en", "--task", "translate"], "does not translate"),
        (["transcribe", __file__, "--model", "bundled:whisper-tiny.en", "--language", "Swedish"], "language 'sv'"),
        (["transcribe", __file__, "x.wav", "--model", "bundled:whisper-base"], "x.wav: no such file"),
        (["evaluate"], "Missing argument"),
        (["evaluate", "--beams", "0", "a", "b"], "beams"),
    ],
)
def test_a_mistake_is_one_message_and_exit_2(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code = main(arguments)
    out, errors = capfd.readouterr()
    assert (code, out) == (2, "")
    assert says in errors
    assert "Traceback" not in errors


def test_debug_shows_the_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["--debug", "train", "nowhere.toml"]) == 2
    assert "Traceback" in capfd.readouterr().err


def test_init_refuses_what_is_not_there(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["init", str(tmp_path / "run"), "--data", "nowhere", "--dev", "nowhere"]) == 2
    assert "nowhere" in capfd.readouterr().err
    assert not (tmp_path / "run").exists()


def test_transcribe_writes_captions_that_read_back(english_read: Path, tmp_path: Path, capfd: Capture) -> None:
    recording = english_read / "jfk.flac"
    command = ("transcribe", recording, "--model", "bundled:whisper-tiny.en", "--out", tmp_path)
    found = told(capfd, *command, "--format", "vtt,srt,txt,json", "--cues", "sentence", "--words")
    (transcript,) = found["transcripts"]
    assert [Path(path).suffix for path in transcript["files"]] == [".vtt", ".srt", ".txt", ".json"]
    read = [read_captions(tmp_path / f"jfk.{suffix}").cues for suffix in ("vtt", "srt", "json")]
    for cues in read:
        assert "your country" in " ".join(cue.text for cue in cues)
        assert [(c.start_s, c.end_s, c.text) for c in cues] == [(c.start_s, c.end_s, c.text) for c in read[0]]
    assert all(cue.words for cue in read[2])
    assert "ask not" in (tmp_path / "jfk.txt").read_text().replace("\n", " ")
    assert run(*command, "--format", "vtt") == 2
    assert "there already" in capfd.readouterr().err


def test_a_recording_that_does_not_decode_stops_no_other(english_read: Path, tmp_path: Path, capfd: Capture) -> None:
    bad, good = tmp_path / "bad.wav", tmp_path / "good.flac"
    bad.write_text("no sound")
    good.write_bytes((english_read / "jfk.flac").read_bytes())
    assert run("transcribe", bad, good, "--model", "bundled:whisper-tiny.en", "--json") == 2
    out, errors = capfd.readouterr()
    found = json.loads(out.splitlines()[-1])
    assert [each["recording"] for each in found["transcripts"]] == [str(good)]
    assert [each["recording"] for each in found["failed"]] == [str(bad)]
    assert "your country" in (tmp_path / "good.vtt").read_text()
    assert "1 of 2 recordings do not decode" in errors
    assert str(bad) in errors


def test_transcribe_by_transformers(english_read: Path, tmp_path: Path) -> None:
    command = ("transcribe", english_read / "jfk.flac", "--model", "bundled:whisper-tiny.en", "--out", tmp_path)
    assert run(*command, "--engine", "transformers") == 0
    assert "your country" in (tmp_path / "jfk.vtt").read_text()
    assert run(*command, "--engine", "transformers", "--words", "--overwrite") == 2
