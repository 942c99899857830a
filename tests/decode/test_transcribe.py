"""What faster-whisper does behind `transcribe`: its threads and its encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from whispertune.decode.transcribe import Options, open_transcriber
from whispertune.model.load import ModelFolder


@pytest.fixture(scope="module")
def fitting(tiny: ModelFolder) -> Any:
    """A transcriber of short clips, whose `whisper` is faster-whisper's model."""
    return open_transcriber(str(tiny.path), Options(language="sv", context="fit"))


def test_torch_keeps_its_threads(tiny: ModelFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that measures retention trains on with as many as before, and so rounds as before."""
    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.set_num_threads(3)
    try:
        open_transcriber(str(tiny.path), Options(language="sv"))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_text_without_a_duration_is_kept(tiny: ModelFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two timestamps that are equal, or behind the recording's end: transformers tells them so."""
    transcribe = open_transcriber(str(tiny.path), Options(language="sv", engine="transformers"))
    tokens = torch.tensor(tiny.vocabulary.encode("ja", "sv"))
    times = ((0.0, 0.9), (0.9, 0.9), (1.5, 2.0))
    segments = [{"start": start, "end": end, "tokens": tokens} for start, end in times]
    monkeypatch.setattr(transcribe.live.model, "generate", lambda *_, **__: {"segments": [segments]})  # type: ignore[attr-defined]
    cues = transcribe(np.zeros(16_000, np.float32), Path("a.wav"), None).cues
    assert [(cue.start_s, cue.end_s, cue.text) for cue in cues] == [
        (0, 0.9, "ja"),
        (0.9, 0.92, "ja"),
        (0.98, 1.0, "ja"),
    ]


@pytest.mark.parametrize(("spoken", "states"), [(158, 79), (159, 81), (160, 81), (162, 81)])
def test_states_are_not_taken_for_a_mel(fitting: Any, spoken: int, states: int) -> None:
    """CTranslate2 encodes again what has as many rows as a mel, which has 80 here."""
    mel = np.zeros((80, 3_000), dtype=np.float32)
    mel[:, :spoken] = np.random.default_rng(0).normal(size=(80, spoken))
    assert fitting.whisper.encode(mel).shape[1] == states
