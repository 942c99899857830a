"""Models as they are stored, computed and exported, and the speech that exports are held against their sources on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile
from safetensors.numpy import load_file

from whispertune.model.export import EXPORTERS
from whispertune.model.formats.contents import Contents
from whispertune.model.load import ModelFolder
from whispertune.publish.runtimes.heard import Clip
from whispertune.windows.features import WINDOW_SAMPLES

if TYPE_CHECKING:
    import torch


def stored(folder: ModelFolder) -> Contents:
    """A model with its weights in the precision of its file, bit for bit."""
    state = load_file(folder.path / "model.safetensors")
    return Contents(state, folder.shape, folder.tokenizer_json, folder.generation)


def untied(model: Any) -> dict[str, np.ndarray]:
    """The merged weights of a model without the projection, which is tied to the embeddings."""
    from whispertune.model.parameters import merged_state

    return {name: array for name, array in merged_state(model).items() if name != "proj_out.weight"}


def logits(model: Any) -> torch.Tensor:
    """Of a mel of noise and three tokens: (1, tokens, vocabulary)."""
    import torch

    mel = torch.randn((1, 80, 3000), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found: torch.Tensor = model(input_features=mel, decoder_input_ids=torch.tensor([[50258, 50259, 1000]])).logits
    return found


def exported(folder: ModelFolder, to: str, quantization: str, out: Path) -> Path:
    """A model in one of the formats, with what lies beside it."""
    out.mkdir(parents=True)
    EXPORTERS[to].write(folder, out, quantization)
    return out


def spoken(folder: Path, language: str, count: int, task: str = "transcribe") -> list[Clip]:
    """The first clips of a metadata folder."""
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()[:count]]
    samples = [soundfile.read(folder / row["file_name"], dtype="float32") for row in rows]
    assert len(samples) == count
    assert all(rate == 16_000 for _, rate in samples)
    return [Clip(each, language, task) for each, _ in samples]


def windows(folder: Path, count: int) -> torch.Tensor:
    """The first clips of a metadata folder as windows: (clips, samples)."""
    import torch

    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()][:count]
    audio = torch.zeros(len(rows), WINDOW_SAMPLES)
    for index, row in enumerate(rows):
        samples, rate = soundfile.read(folder / row["file_name"], dtype="float32")
        assert rate == 16_000
        audio[index, : len(samples)] = torch.from_numpy(samples)
    return audio
