"""faster-whisper, on a CTranslate2 folder.

heard = open_faster_whisper(Path("deployed")).hear(clip)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from whispertune.decode.engines import suppressed_tokens
from whispertune.model.generation import Generation
from whispertune.publish.runtimes.heard import Clip, Heard, Package, on_a_window
from whispertune.windows.tokens import Vocabulary

PACKAGE: Final = Package("faster-whisper", "faster_whisper")


class FasterWhisper:
    """A folder as faster-whisper loads it, in the precision it is stored in."""

    def __init__(self, folder: Path) -> None:
        from faster_whisper import WhisperModel

        self.name = PACKAGE.name
        self.vocabulary = Vocabulary.from_file(folder / "tokenizer.json")
        self.suppress = suppressed_tokens(self.vocabulary, Generation.from_folder(folder))
        self.whisper: Any = WhisperModel(str(folder), device="auto")

    def hear(self, clip: Clip) -> Heard:
        # It fills what is missing of 30 s with zeros in the features, which no model was trained on; silence in the
        # samples is what the source is given too.
        found, _ = self.whisper.transcribe(
            on_a_window(clip.samples),
            language=clip.language,
            task=clip.task,
            beam_size=1,
            temperature=0.0,
            without_timestamps=True,
            condition_on_previous_text=False,
            no_speech_threshold=None,
            log_prob_threshold=None,
            compression_ratio_threshold=None,
            suppress_tokens=self.suppress,
        )
        pieces = list(found)
        tokens = [token for piece in pieces for token in piece.tokens if token < self.vocabulary.end]
        return Heard("".join(piece.text for piece in pieces), tuple(tokens))


def open_faster_whisper(folder: Path) -> FasterWhisper:
    """A CTranslate2 folder in faster-whisper."""
    return FasterWhisper(folder)
