"""The encoder: transformers' numbers on full windows, any shorter mel, and a frozen beginning."""

from __future__ import annotations

from pathlib import Path

import pytest
import soundfile
import torch
from torch import nn

from whispertune.decode.engines import TransformersEngine, load_live
from whispertune.errors import ModelError
from whispertune.model.encoder import frozen_prefix, swap_encoder
from whispertune.model.load import ModelFolder
from whispertune.windows.features import log_mel


def test_full_windows_give_the_very_numbers_of_transformers(base: ModelFolder) -> None:
    torch.manual_seed(0)
    mel, tokens = torch.randn(1, 80, 3000), torch.randint(0, 50_000, (1, 12))
    model = base.load()
    with torch.no_grad():
        theirs = model(mel, decoder_input_ids=tokens)
        swap_encoder(model)
        ours = model(mel, decoder_input_ids=tokens)
    assert torch.equal(ours.encoder_last_hidden_state, theirs.encoder_last_hidden_state)
    assert torch.equal(ours.logits, theirs.logits)


@pytest.mark.parametrize("frames", [2, 100, 1102])
def test_short_mels_are_what_a_short_table_of_positions_gives(tiny: ModelFolder, frames: int) -> None:
    mel = torch.randn(2, 80, frames)
    theirs, ours = tiny.load(), tiny.load()
    encoder = theirs.model.encoder  # transformers' own takes the length that its table has
    encoder.config.max_source_positions = frames // 2
    encoder.embed_positions = nn.Embedding.from_pretrained(encoder.embed_positions.weight[: frames // 2])
    with torch.no_grad():
        expected = encoder(mel).last_hidden_state
        assert torch.allclose(swap_encoder(ours)(mel).last_hidden_state, expected, atol=1e-6)


@pytest.mark.parametrize("frames", [0, 101, 3002])
def test_lengths_without_positions_are_refused(tiny: ModelFolder, frames: int) -> None:
    with pytest.raises(ModelError, match=f"{frames} frames"):
        swap_encoder(tiny.load())(torch.zeros(1, 80, frames))


def test_generate_on_a_mel_cut_to_the_speech(tiny_en: ModelFolder, english_read: Path) -> None:
    """From encoder outputs: where generate() is given the mel, it pads it to 3,000 frames."""
    samples, rate = soundfile.read(english_read / "jfk.flac", dtype="float32")
    assert rate == 16_000
    live = load_live(tiny_en)
    settings = TransformersEngine(live).settings
    encoder = swap_encoder(live.model)
    mel = log_mel(torch.from_numpy(samples[: len(samples) // 320 * 320])[None], 80)
    assert mel.shape[2] < 1200
    with torch.no_grad():
        tokens = live.model.generate(encoder_outputs=encoder(mel), generation_config=settings)
    assert "what you can do for your country" in live.vocabulary.decode(tokens[0].tolist())


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_a_frozen_beginning_and_the_rest_are_the_whole(tiny: ModelFolder, layers: int) -> None:
    mel = torch.randn(2, 80, 300)
    encoder = swap_encoder(tiny.load())
    whole = encoder(mel).last_hidden_state
    encoder.frozen_layers = layers
    states = encoder.prefix(mel)
    assert states.shape == (2, 150, 16)
    assert not states.requires_grad
    assert torch.equal(encoder.rest([states]), whole)
    assert torch.equal(encoder(mel).last_hidden_state, whole)


def test_a_frozen_beginning_never_drops_out(tiny: ModelFolder) -> None:
    mel = torch.randn(1, 80, 100)
    encoder = swap_encoder(tiny.load(dropout=0.5))
    encoder.frozen_layers = 1
    expected = encoder.eval().prefix(mel)
    encoder.train()
    assert torch.equal(encoder.prefix(mel), expected)
    assert not torch.equal(encoder.rest([expected]), encoder.rest([expected]))  # the others do
    assert not any(module.training for module in encoder.layers[0].modules())
    encoder.frozen_layers = 0
    assert not torch.equal(encoder.train().prefix(mel), expected)


def test_how_much_of_the_beginning_is_frozen(tiny: ModelFolder) -> None:
    encoder = swap_encoder(tiny.load())
    found = [frozen_prefix(encoder)]
    for part in (encoder.layers[0], encoder.conv1, encoder.conv2, encoder.layers[1], encoder.layer_norm):
        part.requires_grad_(False)
        found.append(frozen_prefix(encoder))
    assert found == [0, 0, 0, 1, 2, 3]
