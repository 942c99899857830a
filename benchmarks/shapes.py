"""Whispers of the published shapes with random weights: for speed, which does not depend on what weights say.

folder = random_model("large-v3-turbo", Path("somewhere"), like=find_model("bundled:whisper-base"))
"""

from __future__ import annotations

from pathlib import Path

from whispertune.model.formats.transformers import Shape, config_for, write_folder
from whispertune.model.load import ModelFolder

# width, heads, layers of the encoder and of the decoder, mel bins
SHAPES = {
    "tiny": (384, 6, 4, 4, 80),
    "base": (512, 8, 6, 6, 80),
    "small": (768, 12, 12, 12, 80),
    "medium": (1024, 16, 24, 24, 80),
    "large-v3": (1280, 20, 32, 32, 128),
    "large-v3-turbo": (1280, 20, 32, 4, 128),
}


def random_model(name: str, folder: Path, like: ModelFolder) -> ModelFolder:
    """Write one with the vocabulary of `like`; that of large-v3 has one language more, which costs nothing."""
    import torch
    from transformers import WhisperForConditionalGeneration

    from whispertune.model.parameters import merged_state

    width, heads, encoder, decoder, mels = SHAPES[name]
    shape = Shape(like.shape.vocabulary, mels, width, encoder, decoder, heads, heads, 4 * width, 4 * width)
    torch.manual_seed(0)
    model = WhisperForConditionalGeneration(config_for(shape, like.vocabulary))
    folder.mkdir(parents=True, exist_ok=True)
    write_folder(folder, merged_state(model), shape, like.tokenizer_json, like.generation)
    return ModelFolder(str(folder), folder)
