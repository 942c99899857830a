"""Engines: what turns a window of audio into text. CTranslate2 by default, transformers to check it.

    engine = open_engine("ctranslate2", find_model("bundled:whisper-base"))
    engine.decode(mel, "sv", "transcribe", beams=1)   # mel: (batch, n_mels, 3_000), or fewer frames -> texts

`live_engine` takes the weights of a model in training, by the same name table that reads and writes files.
To add an engine, write a function `(LiveModel) -> Engine` and name it in `ENGINES`.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from whispertune.decode.context import spoken_frames
from whispertune.decode.encoding import CpuEncoder, runs_here
from whispertune.errors import InputError
from whispertune.model.export import ctranslate2_files
from whispertune.model.formats.transformers import Shape
from whispertune.model.generation import MAX_LENGTH, Generation
from whispertune.model.load import ModelFolder, find_model, is_ctranslate2
from whispertune.windows.features import HOP_SAMPLES, WINDOW_SAMPLES
from whispertune.windows.tokens import Vocabulary

if TYPE_CHECKING:
    import numpy as np
    import torch
    from transformers import WhisperForConditionalGeneration

WINDOW_FRAMES = WINDOW_SAMPLES // HOP_SAMPLES  # 3,000
WORKERS = 2
MAX_NEW_TOKENS = MAX_LENGTH // 2  # as OpenAI's decoder and CTranslate2 have it


class Engine(Protocol):
    """Decodes windows without timestamps. `name` says which runtime it is."""

    name: str
    vocabulary: Vocabulary
    generation: Generation
    n_mels: int
    takes_states: bool  # in place of mels

    def encode(self, mel: torch.Tensor) -> torch.Tensor | None:
        """What `decode` takes in place of mels: float32 states, (batch, frames / 2, width); None where it does not."""
        ...

    def decode(self, mel: torch.Tensor, language: str, task: str, beams: int = 1) -> list[str]:
        """Texts of a batch of windows; mel is float32, (batch, n_mels, frames): 3,000, or fewer and an even number."""
        ...


@dataclass(frozen=True)
class LiveModel:
    """Weights in memory with what decoding them needs."""

    model: WhisperForConditionalGeneration
    shape: Shape
    vocabulary: Vocabulary
    tokenizer_json: bytes
    generation: Generation


def suppressed_tokens(vocabulary: Vocabulary, generation: Generation) -> list[int]:
    """What is never generated in a text without times: the model's list, and the timestamps.

    A model hardly writes one unasked, but transformers takes it for a place to seek to and decodes on from there.
    """
    return [*generation.suppress, *range(vocabulary.no_timestamps + 1, vocabulary.size)]


class CTranslate2Engine:
    """ctranslate2.models.Whisper on all cores, half of the rows each half of them, or on the GPU where there is one."""

    name, takes_states = "ctranslate2", True

    def __init__(
        self, whisper: Any, vocabulary: Vocabulary, generation: Generation, encoder: CpuEncoder | None = None
    ) -> None:
        self.whisper, self.vocabulary, self.generation = whisper, vocabulary, generation
        self.encoder = encoder  # of the same weights, where it is quicker than ctranslate2's own
        self.n_mels, self.workers = int(whisper.n_mels), int(whisper.num_workers)
        self.suppress = suppressed_tokens(vocabulary, generation)

    def encode(self, mel: torch.Tensor) -> torch.Tensor | None:
        import numpy as np
        import torch
        from ctranslate2 import StorageView

        if mel.shape[2] // 2 == self.n_mels:  # ctranslate2 would take so many states for a mel
            return None
        if self.encoder is not None:
            return self.encoder(mel.cpu())

        def states_of(part: torch.Tensor) -> np.ndarray:
            states = self.whisper.encode(StorageView.from_array(part.contiguous().numpy()), to_cpu=True)
            return np.array(states, dtype=np.float32)

        parts = mel.cpu().chunk(self.workers)  # each to a worker of its own
        with ThreadPoolExecutor(len(parts)) as threads:
            return torch.from_numpy(np.concatenate(list(threads.map(states_of, parts))))

    def decode(self, mel: torch.Tensor, language: str, task: str, beams: int = 1) -> list[str]:
        from ctranslate2 import StorageView

        prompt = self.vocabulary.prefix(language, task, timestamps=False)
        if self.encoder is not None and mel.shape[1] == self.n_mels:
            states = self.encode(mel)
            mel = mel if states is None else states
        results = []
        for part in mel.cpu().chunk(self.workers):  # each to a worker of its own
            results += self.whisper.generate(
                StorageView.from_array(part.contiguous().numpy()),
                [prompt] * len(part),
                asynchronous=True,
                beam_size=beams,
                max_length=MAX_LENGTH,
                suppress_blank=True,
                suppress_tokens=self.suppress,
            )
        return [self.vocabulary.decode(each.result().sequences_ids[0]) for each in results]


class TransformersEngine:
    """The model's own generate()."""

    name, takes_states = "transformers", False

    def __init__(self, live: LiveModel) -> None:
        from copy import deepcopy

        self.model, self.vocabulary, self.generation = live.model, live.vocabulary, live.generation
        self.n_mels = live.shape.n_mels
        self.settings = deepcopy(live.model.generation_config)
        self.settings.suppress_tokens = suppressed_tokens(live.vocabulary, live.generation)
        self.settings.begin_suppress_tokens = list(live.generation.begin_suppress) or None
        self.settings.max_length, self.settings.max_new_tokens = None, MAX_NEW_TOKENS
        self.settings.return_timestamps = False

    def encode(self, mel: torch.Tensor) -> torch.Tensor | None:
        return None

    def decode(self, mel: torch.Tensor, language: str, task: str, beams: int = 1) -> list[str]:
        return [self.vocabulary.decode(sequence) for sequence in self.tokens(mel, language, task, beams)]

    def tokens(self, mel: torch.Tensor, language: str, task: str, beams: int = 1) -> list[list[int]]:
        """What is generated, special tokens with it; `mel` as for `decode`."""
        import torch

        self.vocabulary.check_language(language)
        self.settings.num_beams = beams
        if self.vocabulary.multilingual:
            self.settings.language, self.settings.task = language, task
        training = self.model.training
        self.model.eval()
        fitting = without_padding(self.model) if mel.shape[2] < WINDOW_FRAMES else nullcontext()
        with torch.no_grad(), fitting, unwarned():
            sequences = self.model.generate(
                mel.to(self.model.device),
                generation_config=self.settings,
                attention_mask=torch.ones(mel.shape[0], mel.shape[2]),  # all of it; only quells a warning
            )
        self.model.train(training)
        found: list[list[int]] = sequences.tolist()
        return found


@contextmanager
def unwarned() -> Iterator[None]:
    """Within it transformers does not say that the limit of new tokens outweighs the one in the model's settings."""
    logger = logging.getLogger("transformers.generation.utils")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def without_padding(model: WhisperForConditionalGeneration) -> Iterator[None]:
    """Within it the encoder is spared the zeros that generate() fills short mels up with."""
    from torch.nn.functional import pad

    from whispertune.model.encoder import WhisperEncoder, swap_encoder

    def cut(module: Any, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        mel = given[0] if given else named.pop("input_features")
        mel = pad(mel, (0, mel.shape[-1] % 2))  # languages are detected on what is not filled up yet
        frames = spoken_frames(mel.ne(0).any(dim=1).any(dim=0).cpu().numpy())
        return (mel[..., :frames], *given[1:]), named

    encoder = model.model.encoder
    if not isinstance(encoder, WhisperEncoder):
        encoder = swap_encoder(model)
    hook = encoder.register_forward_pre_hook(cut, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()


def best_device() -> str:
    """`cuda` where torch finds one, else `cpu`."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


@contextmanager
def threads_kept() -> Iterator[None]:
    """Within it ctranslate2 opens a model, and sets the threads of the caller; afterwards torch has its own again.

    Both use one OpenMP: a run that goes on without this engine would round otherwise. Where torch is not loaded nothing
    trains, and loading it takes longer than many a recording.
    """
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else 0
    try:
        yield
    finally:
        if torch:
            torch.set_num_threads(before)


def _whisper(path: str, **options: Any) -> Any:
    import ctranslate2

    with threads_kept():
        return ctranslate2.models.Whisper(path, **_device(), **options)


def _threads() -> int:
    """The cores of this machine, shared with the other processes of a run."""
    return max(1, (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def _device() -> dict[str, Any]:
    """The GPU that torch works on, where ctranslate2 has one; else the cores, shared by workers.

    What a decoder does for one token is little for several threads: two workers with half of the clips each take
    0.7 of the time (whisper-base on 2 cores; on more it was not measured).
    """
    import ctranslate2
    import torch

    if not ctranslate2.get_cuda_device_count():
        workers = min(WORKERS, _threads())
        return {"device": "cpu", "inter_threads": workers, "intra_threads": _threads() // workers}
    return {"device": "cuda", "device_index": torch.cuda.current_device() if torch.cuda.is_available() else 0}


def live_files(live: LiveModel) -> dict[str, bytes]:
    """The files of a CTranslate2 folder in float32, by name, from weights in memory."""
    return ctranslate2_files(live.model, live.shape, live.generation, live.vocabulary, live.tokenizer_json)


class _Once:
    """A file in memory that is read once and then let go: ctranslate2 copies what it reads."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def read(self) -> bytes:
        content, self.content = self.content, b""
        return content


def _open_ctranslate2(live: LiveModel) -> Engine:
    files = live_files(live)
    given = {name: _Once(files.pop(name)) for name in list(files)}
    whisper = _whisper("live", files=given, compute_type="float32")
    own = whisper.device == "cpu" and runs_here()
    encoder = CpuEncoder(live.model, live.shape.encoder_heads) if own else None
    return CTranslate2Engine(whisper, live.vocabulary, live.generation, encoder)


def _open_transformers(live: LiveModel) -> Engine:
    return TransformersEngine(live)


ENGINES: dict[str, Callable[[LiveModel], Engine]] = {
    "ctranslate2": _open_ctranslate2,
    "transformers": _open_transformers,
}


def live_engine(kind: str, live: LiveModel) -> Engine:
    """An engine on weights in memory, which it copies (ctranslate2) or uses (transformers)."""
    if kind not in ENGINES:
        raise InputError(f"unknown engine {kind!r}", fix=f"one of {', '.join(ENGINES)}")
    return ENGINES[kind](live)


def load_live(folder: ModelFolder, dropout: float = 0.0) -> LiveModel:
    """Load a model folder into memory."""
    return LiveModel(folder.load(dropout), folder.shape, folder.vocabulary, folder.tokenizer_json, folder.generation)


def open_engine(kind: str, name: str) -> Engine:
    """An engine on a model by name; a CTranslate2 folder is decoded as it is, int8 too.

    Raises:
        InputError: no such engine. ModelError: no such model.
    """
    path = Path(name).expanduser()
    if kind == "ctranslate2" and path.is_dir() and is_ctranslate2(path):
        vocabulary = Vocabulary.from_file(path / "tokenizer.json")
        return CTranslate2Engine(_whisper(str(path)), vocabulary, Generation.from_ctranslate2(path))
    folder = find_model(name)
    live = load_live(folder)
    if kind == "transformers":
        live.model.to(best_device())
    return live_engine(kind, live)
