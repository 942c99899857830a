"""ONNX Runtime, on a folder of encoder, first step and step with past; the greedy loop is ours.

heard = open_onnx(Path("deployed")).hear(clip)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np

from whispertune.decode.engines import MAX_NEW_TOKENS, suppressed_tokens
from whispertune.errors import ModelError
from whispertune.model.generation import Generation
from whispertune.publish.runtimes.heard import Clip, Heard, Package, on_a_window
from whispertune.windows.features import log_mel
from whispertune.windows.tokens import Vocabulary

PACKAGE: Final = Package("onnxruntime", "onnxruntime", "onnx")


class OnnxRuntime:
    """The three graphs of a folder, on the CPU."""

    def __init__(self, folder: Path) -> None:
        self.name = PACKAGE.name
        self.vocabulary = Vocabulary.from_file(folder / "tokenizer.json")
        generation = Generation.from_folder(folder)
        self.suppress = suppressed_tokens(self.vocabulary, generation)
        self.begin_suppress = list(generation.begin_suppress)
        self.encoder = _session(folder / "encoder_model.onnx")
        self.first_step = _session(folder / "decoder_model.onnx")
        self.next_step = _session(folder / "decoder_with_past_model.onnx")
        self.n_mels = int(self.encoder.get_inputs()[0].shape[1])

    def hear(self, clip: Clip) -> Heard:
        import torch

        mel = log_mel(torch.from_numpy(on_a_window(clip.samples))[None], self.n_mels)
        (states,) = self.encoder.run(None, {"input_features": mel.numpy()})
        prompt = self.vocabulary.prefix(clip.language, clip.task, timestamps=False)
        tokens = [token for token in self._greedy(states, prompt) if token < self.vocabulary.end]
        return Heard(self.vocabulary.decode(tokens), tuple(tokens))

    def _greedy(self, states: np.ndarray, prompt: list[int]) -> list[int]:
        """The likeliest token after the likeliest token; states are (1, frames / 2, width)."""
        logits, past = self._first(states, prompt)
        logits[self.begin_suppress] = -np.inf
        tokens: list[int] = []
        while len(tokens) < MAX_NEW_TOKENS:
            logits[self.suppress] = -np.inf
            token = int(logits.argmax())
            if token == self.vocabulary.end:
                break
            tokens.append(token)
            logits = self._next(token, past)
        return tokens

    def _first(self, states: np.ndarray, prompt: list[int]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Logits after the prompt, (vocabulary,), and what the next step is told, by its names."""
        given = {"input_ids": np.array([prompt]), "encoder_hidden_states": states}
        logits, *present = self.first_step.run(None, given)
        named = zip(self.first_step.get_outputs()[1:], present, strict=True)
        return logits[0, -1], {_as_past(output.name): array for output, array in named}

    def _next(self, token: int, past: dict[str, np.ndarray]) -> np.ndarray:
        """Logits after one token more, (vocabulary,); `past` grows with it."""
        logits, *present = self.next_step.run(None, {"input_ids": np.array([[token]]), **past})
        named = zip(self.next_step.get_outputs()[1:], present, strict=True)
        past.update({_as_past(output.name): array for output, array in named})
        return np.array(logits[0, -1])


def _as_past(name: str) -> str:
    return name.replace("present.", "past_key_values.", 1)


def _session(path: Path) -> Any:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3  # errors: what it makes of the graph is no news to anyone
    if not path.is_file():
        raise ModelError("no such graph", where=str(path), fix="export the model again with --to onnx")
    return onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])


def open_onnx(folder: Path) -> OnnxRuntime:
    """An ONNX folder in ONNX Runtime.

    Raises:
        InputError: ONNX Runtime is not installed.
    """
    PACKAGE.check()
    return OnnxRuntime(folder)
