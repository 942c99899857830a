"""A model before and after fine-tuning, side by side: speak or choose a file, and read what each of them writes.

    pip install -r requirements.txt
    python app.py          # then open http://127.0.0.1:7860

Which models, which language and which task stand in space.json beside this file. A model is a name on the hub or a
folder (relative to this one); where it has a CTranslate2 model in it or under ct2/, faster-whisper runs it, else
transformers does.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # gradio reads it when it is imported

import av
import gradio as gr
import numpy as np
from faster_whisper.audio import decode_audio

HERE = Path(__file__).parent
SAMPLE_RATE_HZ = 16_000
WINDOW_SAMPLES = 30 * SAMPLE_RATE_HZ  # what Whisper hears at once
CTRANSLATE2 = "ct2"  # the folder of a repository that faster-whisper takes
TRANSFORMERS_FILES = ["*.json", "*.txt", "model.safetensors", "model-0*.safetensors"]
RIGHT_TO_LEFT = ("ar", "fa", "he", "ps", "sd", "ur", "yi")

Transcriber = Callable[[np.ndarray], str]


def find(name: str) -> Path:
    """The folder of a model, which is downloaded where it is not here."""
    folder = HERE / name
    if not folder.is_dir():
        folder = Path(_download(name))
    inner = folder / CTRANSLATE2
    return inner if (inner / "model.bin").is_file() else folder


def _download(name: str) -> str:
    from huggingface_hub import list_repo_files, snapshot_download

    files = list_repo_files(name)
    if f"{CTRANSLATE2}/model.bin" in files:
        return str(snapshot_download(name, allow_patterns=[f"{CTRANSLATE2}/*"]))
    if "model.bin" in files:
        return str(snapshot_download(name, allow_patterns=["*.json", "*.txt", "model.bin"]))
    return str(snapshot_download(name, allow_patterns=TRANSFORMERS_FILES))


def open_model(name: str, language: str | None, task: str) -> Transcriber:
    """A model by name, loaded, in the runtime that its files are for."""
    folder = find(name)
    if (folder / "model.bin").is_file():
        return _faster_whisper(folder, language, task)
    return _transformers(folder, language, task)


def _faster_whisper(folder: Path, language: str | None, task: str) -> Transcriber:
    from faster_whisper import WhisperModel

    whisper = WhisperModel(str(folder), device="auto")
    # faster-whisper has a list of its own; the model's leaves out what its training texts have: brackets, quotes ...
    suppress = json.loads((folder / "config.json").read_text()).get("suppress_ids", [-1])

    def transcribe(samples: np.ndarray) -> str:
        # Less than 30 s is filled up with silence: faster-whisper would put zeros into the features, which is another
        # thing and which no model was trained on.
        short = len(samples) <= WINDOW_SAMPLES
        found, _ = whisper.transcribe(
            np.pad(samples, (0, max(0, WINDOW_SAMPLES - len(samples)))),
            language=language,
            task=task,
            without_timestamps=short,
            condition_on_previous_text=False,
            suppress_tokens=suppress,
        )
        return "".join(piece.text for piece in found).strip()

    return transcribe


def _transformers(folder: Path, language: str | None, task: str) -> Transcriber:
    import torch
    from transformers import pipeline

    device = "cuda" if torch.cuda.is_available() else "cpu"
    whisper = pipeline("automatic-speech-recognition", model=str(folder), dtype=torch.float32, device=device)
    options = {}
    if getattr(whisper.model.generation_config, "is_multilingual", True):  # English-only models take neither
        options = {"task": task} | ({"language": language} if language else {})

    def transcribe(samples: np.ndarray) -> str:
        long = len(samples) > WINDOW_SAMPLES  # only with timestamps does it go on behind the first 30 s
        return str(whisper(samples.copy(), return_timestamps=long, generate_kwargs=dict(options))["text"]).strip()

    return transcribe


def read(recording: str | None) -> np.ndarray:
    """The samples of what was recorded or chosen."""
    if recording is None:
        raise gr.Error("Record something, or choose a file.", title="No speech yet", print_exception=False)
    try:
        return np.asarray(decode_audio(recording, sampling_rate=SAMPLE_RATE_HZ), dtype=np.float32)
    except (av.FFmpegError, IndexError, ValueError) as error:
        what = "There is no audio in this file that can be read."
        raise gr.Error(what, title="No speech in it", print_exception=False) from error


def page(settings: dict[str, Any], base: Transcriber, tuned: Transcriber) -> gr.Blocks:
    """What is seen: speech above, and what each model writes below."""

    def transcribe(recording: str | None) -> Iterator[tuple[str, str]]:
        samples = read(recording)
        yield "…", "…"
        after = tuned(samples)
        yield "…", after
        yield base(samples), after

    rtl = settings["language"] in RIGHT_TO_LEFT
    with gr.Blocks(title=settings["title"], analytics_enabled=False) as blocks:
        gr.Markdown(f"# {settings['title']}")
        speech = gr.Audio(sources=["microphone", "upload"], type="filepath", label="Speech", buttons=["download"])
        button = gr.Button("Transcribe", variant="primary")
        with gr.Row():
            before = gr.Textbox(label=f"Before: {_shown(settings['base'])}", lines=4, rtl=rtl, buttons=["copy"])
            after = gr.Textbox(label=f"After: {_shown(settings['tuned'])}", lines=4, rtl=rtl, buttons=["copy"])
        button.click(transcribe, inputs=speech, outputs=[before, after], api_name="transcribe")
    return blocks


def _shown(name: str) -> str:
    """A name on the hub as it is, and of a folder its last part."""
    return Path(name).name if name.startswith(".") else name


def main() -> None:
    """Load both models and serve the page."""
    settings = json.loads((HERE / "space.json").read_text(encoding="utf-8"))
    base, tuned = (open_model(settings[each], settings["language"], settings["task"]) for each in ("base", "tuned"))
    page(settings, base, tuned).launch(footer_links=["gradio", "settings"])


if __name__ == "__main__":
    main()
