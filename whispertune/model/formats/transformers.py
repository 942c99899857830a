"""The transformers folder: complete, so that every runtime that reads it finds what it needs.

    write_folder(out, state, shape, tokenizer_json, generation)
    model = read_model(out, read_weights(out, shape), generation, vocabulary)

config.json, generation_config.json, preprocessor_config.json (faster-whisper assumes 80 mels without it),
tokenizer.json with the 1,501 timestamp tokens, tokenizer_config.json, model.safetensors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from whispertune.errors import ModelError
from whispertune.model.formats.tied import PROJECTION, without_tied
from whispertune.model.generation import MAX_LENGTH, Generation, generation_values, write_generation
from whispertune.windows.tokens import N_TIMESTAMPS, TIMESTAMP_STEP_S, Vocabulary, with_all_merges

if TYPE_CHECKING:
    import torch
    from transformers import WhisperForConditionalGeneration

MISSING_TOLD = 3  # names of missing weights at most that an error lists
DAMAGED = (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError)  # of settings, by the library


@dataclass(frozen=True, slots=True)
class Shape:
    """The numbers that make one Whisper differ from another."""

    vocabulary: int
    n_mels: int
    width: int
    encoder_layers: int
    decoder_layers: int
    encoder_heads: int
    decoder_heads: int
    encoder_feed_forward: int
    decoder_feed_forward: int

    @classmethod
    def from_folder(cls, folder: Path) -> Shape:
        """Read the shape from `config.json`."""
        try:
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            return cls(
                vocabulary=config["vocab_size"],
                n_mels=config["num_mel_bins"],
                width=config["d_model"],
                encoder_layers=config["encoder_layers"],
                decoder_layers=config["decoder_layers"],
                encoder_heads=config["encoder_attention_heads"],
                decoder_heads=config["decoder_attention_heads"],
                encoder_feed_forward=config["encoder_ffn_dim"],
                decoder_feed_forward=config["decoder_ffn_dim"],
            )
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise ModelError(
                f"no readable config.json of a Whisper model ({error!r})",
                where=str(folder / "config.json"),
                fix="download or convert the model again",
            ) from error

    @classmethod
    def from_state(cls, state: Mapping[str, np.ndarray], encoder_heads: int, decoder_heads: int) -> Shape:
        """Read the shape off the weights; the numbers of heads cannot be seen in them."""
        layers = {
            part: len({name.split(".")[3] for name in state if name.startswith(f"model.{part}.layers.")})
            for part in ("encoder", "decoder")
        }
        vocabulary, width = state["model.decoder.embed_tokens.weight"].shape
        return cls(
            vocabulary=vocabulary,
            n_mels=state["model.encoder.conv1.weight"].shape[1],
            width=width,
            encoder_layers=layers["encoder"],
            decoder_layers=layers["decoder"],
            encoder_heads=encoder_heads,
            decoder_heads=decoder_heads,
            encoder_feed_forward=state["model.encoder.layers.0.fc1.weight"].shape[0],
            decoder_feed_forward=state["model.decoder.layers.0.fc1.weight"].shape[0],
        )


def config_for(shape: Shape, vocabulary: Vocabulary, *, tied: bool = True) -> Any:
    """The WhisperConfig of a model of this shape, whose output weights are its embeddings where it is `tied`."""
    from transformers import WhisperConfig

    return WhisperConfig(
        vocab_size=shape.vocabulary,
        num_mel_bins=shape.n_mels,
        d_model=shape.width,
        encoder_layers=shape.encoder_layers,
        decoder_layers=shape.decoder_layers,
        encoder_attention_heads=shape.encoder_heads,
        decoder_attention_heads=shape.decoder_heads,
        encoder_ffn_dim=shape.encoder_feed_forward,
        decoder_ffn_dim=shape.decoder_feed_forward,
        bos_token_id=vocabulary.end,
        eos_token_id=vocabulary.end,
        pad_token_id=vocabulary.end,
        decoder_start_token_id=vocabulary.start,
        suppress_tokens=None,
        begin_suppress_tokens=None,
        tie_word_embeddings=tied,
        architectures=["WhisperForConditionalGeneration"],
    )


@lru_cache(maxsize=4)  # a run asks for the same one many times
def complete_tokenizer(tokenizer_json: bytes) -> bytes:
    """The tokenizer with what conversions often leave out, timestamps and a merge, and without limits to its texts."""
    content = with_all_merges(json.loads(tokenizer_json))
    content["truncation"] = content["padding"] = None
    added = content["added_tokens"]
    present = {entry["content"]: entry["id"] for entry in added}
    first = present["<|notimestamps|>"] + 1
    for index in range(N_TIMESTAMPS):
        name = f"<|{index * TIMESTAMP_STEP_S:.2f}|>"
        if name not in present:
            flags = {
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": True,
                "special": False,
            }
            added.append({"id": first + index, "content": name, **flags})
    return json.dumps(content, ensure_ascii=False).encode()


@lru_cache(maxsize=4)
def token_names(tokenizer_json: bytes) -> tuple[str, ...]:
    """All tokens by id, as CTranslate2's vocabulary.json lists them."""
    content = json.loads(complete_tokenizer(tokenizer_json))
    by_id = {id_: name for name, id_ in content["model"]["vocab"].items()}
    by_id |= {entry["id"]: entry["content"] for entry in content["added_tokens"]}
    return tuple(by_id[id_] for id_ in range(len(by_id)))


def write_folder(
    folder: Path,
    state: Mapping[str, np.ndarray],
    shape: Shape,
    tokenizer_json: bytes,
    generation: Generation,
) -> None:
    """Write a complete folder; the weights keep the precision they come in, and are tied as they come."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: np.ascontiguousarray(array) for name, array in without_tied(state).items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    write_tokenizer(folder, tokenizer_json, shape.n_mels)
    vocabulary = Vocabulary.from_file(folder / "tokenizer.json")
    config = config_for(shape, vocabulary, tied=PROJECTION not in weights)
    config.dtype = str(next(iter(weights.values())).dtype)
    config.save_pretrained(folder)
    write_generation(folder, generation, vocabulary)


def write_tokenizer(folder: Path, tokenizer_json: bytes, n_mels: int) -> None:
    """Write tokenizer.json, tokenizer_config.json and preprocessor_config.json."""
    from transformers import WhisperFeatureExtractor

    (folder / "tokenizer.json").write_bytes(complete_tokenizer(tokenizer_json))
    end = "<|endoftext|>"
    settings = {
        "tokenizer_class": "WhisperTokenizer",
        "processor_class": "WhisperProcessor",
        "bos_token": end,
        "eos_token": end,
        "pad_token": end,
        "unk_token": end,
        "model_max_length": MAX_LENGTH,
        "clean_up_tokenization_spaces": False,
        "add_prefix_space": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    WhisperFeatureExtractor(feature_size=n_mels).save_pretrained(folder)


def read_model(
    folder: Path,
    weights: Mapping[str, torch.Tensor],
    generation: Generation,
    vocabulary: Vocabulary,
    dropout: float = 0.0,
) -> WhisperForConditionalGeneration:
    """The model in float32, in evaluation mode, without any dropout but what is asked for.

    Args:
        folder: with its config.json.
        weights: of the folder, see weights.py; transformers opens none of its files, and none that it names.
        generation: how it is to be decoded.
        vocabulary: its own.
        dropout: of the layers.

    Raises:
        ModelError: the folder holds no whole Whisper model that transformers can load.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers import GenerationConfig, WhisperConfig, WhisperForConditionalGeneration
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # the weights of one Whisper load in a second or two
    own = {"dropout": dropout, "attention_dropout": 0.0, "activation_dropout": 0.0}
    try:
        config = WhisperConfig.from_pretrained(folder, local_files_only=True, **own)
        model, found = WhisperForConditionalGeneration.from_pretrained(
            None, config=config, state_dict=dict(weights), dtype="float32", output_loading_info=True
        )
    except (*DAMAGED, StrictDataclassError) as error:
        raise ModelError(
            f"not a Whisper model that can be loaded ({error})",
            where=str(folder),
            fix="check the folder's files",
        ) from error
    if missing := sorted(found["missing_keys"]):  # transformers puts random numbers there
        raise ModelError(
            f"{len(missing)} of its weights are missing, {', '.join(missing[:MISSING_TOLD])} first",
            where=str(folder),
            fix="download or convert it again",
        )
    model.name_or_path = model.config.name_or_path = str(folder)  # peft asks for it
    # The hub's settings may be old or none, and carry prompt tokens that newer releases refuse or that force English.
    model.config.forced_decoder_ids = None
    model.generation_config = GenerationConfig(**generation_values(generation, vocabulary))
    return model.eval()
