"""A demo Space: a folder with a page on which the model before and after fine-tuning are heard side by side.

write_space(Path("space"), title="Swedish", tuned="me/whisper-small-sv", base="openai/whisper-small", language="sv",
            task="transcribe")

The folder holds app.py, requirements.txt, README.md with what the hub reads, and space.json with the settings. It runs
anywhere without Whispertune: `pip install -r requirements.txt`, `python app.py`.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Final

from whispertune.errors import InputError
from whispertune.model.naming import hub_name

GRADIO_VERSION: Final = "6.31.0"  # what app.py is tested with
APP: Final = Path(__file__).parent / "space_files" / "app.py"

FASTER_WHISPER: Final = (f"gradio=={GRADIO_VERSION}", "faster-whisper>=1.2")  # it reads the audio for both runtimes
TRANSFORMERS: Final = ("torch>=2.11", "transformers>=5.17,<6")


def write_space(out: Path, *, title: str, tuned: str, base: str, language: str | None, task: str) -> None:
    """Write the folder of a Space.

    Args:
        out: the folder, made where it is not there.
        title: heads the page.
        tuned: the model after fine-tuning: a name on the hub, or a folder, which stays where it is.
        base: the model before, likewise.
        language: of the speech; None: each model finds it out.
        task: transcribe or translate.

    Raises:
        InputError: a model that is neither on the hub by its name nor a folder with a model.
    """
    models = [_model(name, out) for name in (base, tuned)]
    out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(APP, out / "app.py")
    settings = {"title": title, "base": models[0], "tuned": models[1], "language": language, "task": task}
    _write(out / "space.json", json.dumps(settings, indent=2, ensure_ascii=False))
    needed = FASTER_WHISPER if all(_is_ctranslate2(out / name) for name in models) else FASTER_WHISPER + TRANSFORMERS
    _write(out / "requirements.txt", "\n".join(needed))
    _write(out / "README.md", _readme(title, *models))


def _model(name: str, out: Path) -> str:
    """A model as app.py finds it: a name on the hub, or the way from the Space to a folder."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not _is_ctranslate2(folder) and not (folder / "config.json").is_file():
            raise InputError(
                "no model in this folder", where=name, fix=f"export it first: whispertune export {name} --to ct2"
            )
        way = Path(os.path.relpath(folder.resolve(), out.resolve())).as_posix()
        return way if way.startswith("..") else f"./{way}"
    if hub := hub_name(name):
        return hub
    raise InputError(
        f"no model {name!r} for a Space", fix="a name on the hub, such as me/whisper-small-sv, or a folder"
    )


def _is_ctranslate2(folder: Path) -> bool:
    """Whether app.py gives this folder to faster-whisper."""
    return any((folder / inner / "model.bin").is_file() for inner in (".", "ct2"))


def _readme(title: str, base: str, tuned: str) -> str:
    from huggingface_hub import SpaceCardData

    hub = [name for name in (tuned, base) if _on_the_hub(name)]
    metadata = SpaceCardData(
        title=title,
        emoji="🎙️",
        sdk="gradio",
        sdk_version=GRADIO_VERSION,
        app_file="app.py",
        models=hub or None,
        short_description="Whisper before and after fine-tuning, side by side",
    )
    return (
        f"---\n{metadata.to_yaml()}\n---\n\n# {title}\n\n"
        f"Speak or choose a file: what {_link(base)} writes, and beside it what {_link(tuned)} writes, which was made "
        "of it by fine-tuning with Whispertune.\n\n"
        "It runs on any machine with Python 3.10 or later, and shows itself on http://127.0.0.1:7860:\n\n"
        "    pip install -r requirements.txt\n    python app.py\n\n"
        "Models, language and task stand in `space.json`."
    )


def _link(name: str) -> str:
    return f"[{name}](https://huggingface.co/{name})" if _on_the_hub(name) else f"`{Path(name).name}`"


def _on_the_hub(name: str) -> bool:
    """Whether it is a name, and no way to a folder."""
    return not name.startswith(".")


def _write(path: Path, content: str) -> None:
    path.write_text(content + "\n", encoding="utf-8")
