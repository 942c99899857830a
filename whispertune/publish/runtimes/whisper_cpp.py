"""whisper.cpp, by pywhispercpp, on a ggml file.

heard = open_whisper_cpp(Path("deployed")).hear(clip)

What it cannot be told: a list of tokens to leave out, which it gets as the regular expression beside the file; tokens
that must not come first other than both the space and the end; more than 220 tokens of text.
Its flash attention, on by default, hears 36 states behind the 1,500 that there are, and so writes other words where
it is unsure: it is off here (`whisper-cli -nfa`). Left to itself it also leaves nothing out (`-sns` does, nearly as
OpenAI's list) and tries again at higher temperatures.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from whispertune.errors import ModelError, VerificationError
from whispertune.model.formats.ggml import FILES
from whispertune.model.formats.ggml_vocabulary import LEFT_OUT
from whispertune.model.generation import Generation
from whispertune.publish.runtimes.heard import Clip, Heard, Package, on_a_window, suppresses_blank
from whispertune.windows.tokens import Vocabulary

PACKAGE: Final = Package("pywhispercpp", "_pywhispercpp", "ggml")
ERROR = 4  # ggml's level of messages


class WhisperCpp:
    """A ggml file as whisper.cpp loads it, on all cores."""

    def __init__(self, folder: Path, cpp: Any) -> None:
        self.name = PACKAGE.name
        self.cpp = cpp
        self.vocabulary = Vocabulary.from_file(folder / "tokenizer.json")
        self.params = _params(cpp, folder, self.vocabulary)
        path, settings = _file(folder), cpp.whisper_context_default_params()
        settings.flash_attn = False
        with _heeding(cpp) as errors:
            self.context = cpp.whisper_init_from_file_with_params(str(path), settings)
        if errors:  # the context would be null, which nothing here can see
            raise ModelError(f"whisper.cpp cannot load it ({' '.join(errors)})", where=str(path), fix="export it again")
        weakref.finalize(self, cpp.whisper_free, self.context)

    def hear(self, clip: Clip) -> Heard:
        cpp = self.cpp
        self.vocabulary.check_language(clip.language)  # an unknown one would be detected instead
        self.params.language = clip.language
        self.params.translate = clip.task == "translate"
        samples = on_a_window(clip.samples)  # alone, what is shorter than 100 ms is passed over
        with _heeding(cpp) as errors:
            code = cpp.whisper_full(self.context, self.params, samples, len(samples))
        if code:
            raise VerificationError(f"whisper.cpp gave up on a clip with code {code} ({' '.join(errors)})")
        segments = range(cpp.whisper_full_n_segments(self.context))
        text = b"".join(cpp.whisper_full_get_segment_text(self.context, segment) for segment in segments)
        tokens = [
            cpp.whisper_full_get_token_id(self.context, segment, number)
            for segment in segments
            for number in range(cpp.whisper_full_n_tokens(self.context, segment))
        ]
        return Heard(text.decode(errors="replace"), tuple(each for each in tokens if each < self.vocabulary.end))


def open_whisper_cpp(folder: Path) -> WhisperCpp:
    """The ggml file of a folder in whisper.cpp.

    Raises:
        InputError: pywhispercpp is not installed.
        ModelError: the file is not there or cannot be loaded.
    """
    PACKAGE.check()
    import _pywhispercpp as cpp  # pywhispercpp's Model has no tokens

    return WhisperCpp(folder, cpp)


def _file(folder: Path) -> Path:
    found = [folder / name for name in FILES.values() if (folder / name).is_file()]
    if len(found) != 1:
        raise ModelError(f"{len(found)} ggml files", where=str(folder), fix=f"one of {', '.join(FILES.values())}")
    return found[0]


def _params(cpp: Any, folder: Path, vocabulary: Vocabulary) -> Any:
    """How all clips are decoded: greedily, once, and without times."""
    generation = Generation.from_folder(folder)
    params = cpp.whisper_full_default_params(cpp.whisper_sampling_strategy.WHISPER_SAMPLING_GREEDY)
    params.greedy = {"best_of": 1}
    params.n_threads = os.cpu_count() or 1
    params.no_timestamps = params.no_context = True
    params.temperature_inc = 0.0  # no second try
    params.no_speech_thold = 2.0  # a probability that nothing has
    params.print_progress = params.print_realtime = params.print_timestamps = params.print_special = False
    params.suppress_blank = suppresses_blank(vocabulary, generation)
    if left_out := (folder / LEFT_OUT).read_text(encoding="ascii"):
        params.suppress_regex = left_out
    return params


@contextmanager
def _heeding(cpp: Any) -> Iterator[list[str]]:
    """Collect whisper.cpp's errors, and keep all else that it says off the screen."""
    errors: list[str] = []

    def hear(level: int, text: str) -> None:
        if level == ERROR:
            errors.append(text.strip())

    cpp.whisper_log_set(hear)
    try:
        yield errors
    finally:
        cpp.whisper_log_set(None)
