"""A model whose texts begin with a space of its own, as tuned ones of Bengali and Telugu do: lists, runtimes, card."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.exports import exported
from tests.hub_server import Hub
from whispertune.model.formats.known_tokenizers import default_generation, tokenizer_for
from whispertune.model.formats.openai import Dims, rows
from whispertune.model.formats.transformers import write_folder
from whispertune.model.load import ModelFolder
from whispertune.publish.exported import Exported
from whispertune.publish.runtimes import RUNTIMES
from whispertune.publish.runtimes.heard import Clip
from whispertune.publish.runtimes.transformers import Transformers
from whispertune.publish.usage import Spoken, usage

TO = "me/whisper-bn"
SPACE, END = 220, 50257
QUANTIZATIONS = {"openai": "float32", "ggml": "float16"}
CLIP = Clip(np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32), "bn", "transcribe")

pytestmark = pytest.mark.filterwarnings("ignore:.*tiktoken:ResourceWarning")  # openai-whisper leaves it open


@pytest.fixture(scope="module")
def spaced(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    """A random model whose first token is made the space, and with the lists that tuning on such texts leaves."""
    dims = Dims(80, 1500, 16, 2, 1, 51865, 448, 16, 2, 1)
    rng = np.random.default_rng(0)
    state = {row.theirs: rng.normal(0, 0.2, row.shape).astype(np.float32) for row in rows(dims)}
    _end_soon(state)
    tokenizer = tokenizer_for(51865)
    generation = replace(default_generation(tokenizer), begin_suppress=(END,))
    folder = tmp_path_factory.mktemp("spaced")
    write_folder(folder / "random", state, dims.shape, tokenizer, generation)
    first = Transformers(ModelFolder("random", folder / "random")).hear(CLIP).tokens[0]
    tokens = state["model.decoder.embed_tokens.weight"]
    tokens[[first, SPACE]] = tokens[[SPACE, first]]
    write_folder(folder / "spaced", state, dims.shape, tokenizer, generation)
    return ModelFolder("spaced", folder / "spaced")


def _end_soon(state: dict[str, np.ndarray]) -> None:
    """Each position brings a token of its own and the ninth the end, as whisper.cpp takes its time for each."""
    end = np.tile(np.array([1, -1], np.float32), 8)
    positions, norm = state["model.decoder.embed_positions.weight"], "model.decoder.layer_norm"
    positions[:8] = 5 * positions[:8] - 0.5 * end
    positions[8:] += 20 * end
    state[f"{norm}.weight"][:], state[f"{norm}.bias"][:] = 1, 0
    state["model.decoder.embed_tokens.weight"][END] = end


@pytest.mark.parametrize("to", QUANTIZATIONS)
def test_runtime_and_card_write_it_first(
    to: str, spaced: ModelFolder, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = exported(spaced, to, QUANTIZATIONS[to], tmp_path / "out")
    source, ours = Transformers(spaced).hear(CLIP).tokens, RUNTIMES[to](out, spaced).hear(CLIP)
    assert ours.tokens[0] == SPACE
    assert ours.tokens == source
    assert ours.text.strip()
    files = {f"{to}/{each.name}": each.read_bytes() for each in out.iterdir()}
    hub.add_repo(TO, files, kind="models")
    spoken = Spoken("bn", "transcribe", multilingual=True, suppress_blank=False)
    program = usage(Exported(to, QUANTIZATIONS[to], to, 1, "", None), TO, spoken, base=None)
    assert program is not None
    monkeypatch.chdir(tmp_path)
    soundfile.write("speech.wav", CLIP.samples, 16_000, subtype="FLOAT")
    found: dict[str, Any] = {}
    exec(compile(program, "the card", "exec"), found)
    assert found["text"].strip() == ours.text.strip()
