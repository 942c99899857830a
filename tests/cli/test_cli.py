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
from whispertune.model.load import ModelFolder
from whispertune.reporting import StepReport

PROMISED = {
    *("rows", "audio_seconds", "seconds", "engine", "wer", "wer_interval", "cer", "wer_normalized"),
    *("cer_normalized", "substitutions", "deletions", "insertions", "normalizer"),
}


def run(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "whispertune", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)


def last_json(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()  # nothing else on stdout
    found: dict[str, Any] = json.loads(line)
    return found


def test_evaluate_prints_what_it_promises(base: ModelFolder, english_read: Path) -> None:
    found = last_json(run("evaluate", "bundled:whisper-base", english_read, "--language", "en", "--json"))
    assert found.keys() >= PROMISED
    assert (found["rows"], found["engine"]) == (3, "ctranslate2")
    assert found["wer_normalized"] < 10  # read English, as good as solved
    assert found["wer"] == pytest.approx(found["substitutions"] + found["deletions"] + found["insertions"])
    low, high = found["wer_interval"]
    assert low <= found["wer"] <= high


def test_a_context_that_was_not_trained_is_warned_of(tiny: ModelFolder, noises: Path) -> None:
    done = run("evaluate", tiny.path, noises / "dev", "--language", "sv", "--context", "fit", "--json")
    assert last_json(done)["context"] == "fit"
    assert "many more errors" in done.stderr


def test_the_figures_of_a_step_fit_a_screen() -> None:
    report = StepReport(29, 30, 0.9, 0.1, 2.345, 1e-4, 0.512, 6, 16, 300, 50.0, 1.0, 0, 123.4, 754.0, 0.02, 0.12, 0)
    figures = step_figures(report)
    assert figures == ("loss 2.345 · lr 1.0e-04 · grad 0.51 · 123 h speech/h · waiting 2 % · dev 12 % · 12:34 left")
    assert "2 skipped" in step_figures(replace(report, skipped=2))


def test_both_engines_agree(base: ModelFolder, english_read: Path) -> None:
    both = [
        last_json(run("evaluate", base.path, english_read, "--language", "en", "--engine", engine, "--json"))
        for engine in ("ctranslate2", "transformers")
    ]
    assert both[0]["wer"] == pytest.approx(both[1]["wer"], abs=0.5)


def test_from_init_to_export(tiny: ModelFolder, noises: Path, tmp_path: Path) -> None:
    """The five commands in a row, on a model that knows nothing, so quickly."""
    folder = tmp_path / "my-run"
    data = ("--data", noises / "train", "--dev", noises / "dev", "--language", "sv", "--model", tiny.path)
    done = run("init", folder, *data)
    assert done.returncode == 0, done.stderr
    assert "whispertune train" in done.stdout
    trained = last_json(
        run(
            "train",
            folder / "recipe.toml",
            "train.epochs=1",
            "evaluation.times=1",
            "windows.fit_share=0.5",
            "evaluation.verify_clips=2",
            "--json",
        )
    )
    assert trained["run"] == str(folder)
    assert trained["steps"] == 1
    assert trained.keys() >= {"seconds", "seconds_training", "seconds_evaluating", "utterances_per_second"}
    for side in ("base", "tuned"):
        assert trained[side].keys() >= PROMISED | {"split"}
        assert trained[side]["split"] == "dev"
    assert (trained["base"]["biased_by_selection"], trained["tuned"]["biased_by_selection"]) == (False, True)
    for context, name in (("full", "tuned"), ("auto", "tuned_fit")):  # half of its steps were trained so
        evaluated = last_json(run("evaluate", folder, noises / "dev", "--context", context, "--json"))
        assert evaluated["wer"] == pytest.approx(trained[name]["wer"])
        assert evaluated["context"] == trained[name]["context"]
    exported = last_json(run("export", folder, "--to", "ct2", "--out", tmp_path / "deployed", "--json"))
    assert exported["verified"] is True
    assert exported["wer_apart"] <= 0.5
    assert run("export", folder, "--to", "ct2", "--out", tmp_path / "deployed").returncode == 2  # in use
    again = run("train", folder / "recipe.toml")
    assert (again.returncode, "already begun" in again.stderr) == (2, True)


def test_a_stopped_run_exits_with_3_and_can_be_resumed(tiny: ModelFolder, noises: Path, tmp_path: Path) -> None:
    folder = tmp_path / "my-run"
    run("init", folder, "--data", noises / "train", "--dev", noises / "dev", "--language", "sv", "--model", tiny.path)
    command = [sys.executable, "-m", "whispertune", "train", str(folder / "recipe.toml"), "train.steps=60"]
    process = subprocess.Popen([*command, "train.step_segments=4"], stderr=subprocess.PIPE, text=True)
    metrics = folder / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not metrics.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 3, errors
    assert "Traceback" not in errors
    assert f"whispertune train {folder / 'resolved.toml'} --out {folder} --resume" in errors
    resumed = last_json(run("train", folder / "resolved.toml", "--out", folder, "--resume", "--json"))
    assert resumed["steps"] == 60
    steps = [json.loads(line)["step"] for line in metrics.read_text().splitlines() if '"kind": "step"' in line]
    assert steps == list(range(1, 61))


def test_ctrl_c_is_no_success(mboshi: Path) -> None:
    command = [sys.executable, "-m", "whispertune", "evaluate", "bundled:whisper-base", str(mboshi / "dev")]
    process = subprocess.Popen(
        [*command, "--language", "ln"],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  # background shells ignore it
    )
    time.sleep(6)  # whatever it is at by then
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, "Traceback" in errors) == (3, False)


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
        (["transcribe", "x.wav", "--model", "bundled:whisper-tiny.en", "--task", "translate"], "does not translate"),
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


def test_transcribe_writes_captions_that_read_back(english_read: Path, tmp_path: Path) -> None:
    from whispertune.data.captions import read_captions

    recording = english_read / "jfk.flac"
    command = ("transcribe", recording, "--model", "bundled:whisper-tiny.en", "--out", tmp_path, "--json")
    found = last_json(run(*command, "--format", "vtt,srt,txt,json", "--cues", "sentence", "--words"))
    (transcript,) = found["transcripts"]
    assert [Path(path).suffix for path in transcript["files"]] == [".vtt", ".srt", ".txt", ".json"]
    read = [read_captions(tmp_path / f"jfk.{suffix}").cues for suffix in ("vtt", "srt", "json")]
    for cues in read:
        assert "your country" in " ".join(cue.text for cue in cues)
        assert [(c.start_s, c.end_s, c.text) for c in cues] == [(c.start_s, c.end_s, c.text) for c in read[0]]
    assert all(cue.words for cue in read[2])
    assert "ask not" in (tmp_path / "jfk.txt").read_text().replace("\n", " ")
    done = run(*command, "--format", "vtt")
    assert (done.returncode, "there already" in done.stderr) == (2, True)


def test_transcribe_by_transformers(english_read: Path, tmp_path: Path) -> None:
    command = ("transcribe", english_read / "jfk.flac", "--model", "bundled:whisper-tiny.en", "--out", tmp_path)
    assert run(*command, "--engine", "transformers").returncode == 0
    assert "your country" in (tmp_path / "jfk.vtt").read_text()
    assert run(*command, "--engine", "transformers", "--words", "--overwrite").returncode == 2
