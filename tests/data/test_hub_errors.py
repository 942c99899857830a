"""What goes wrong with hub datasets: one clear line each, the same downloaded and streamed; tokens, languages."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hub_client import streamed
from tests.hub_datasets import card, clip, fleurs, parquet
from tests.hub_server import Hub
from whispertune.data.audio import AudioReader
from whispertune.data.segments import SourceSpec
from whispertune.data.sources.hub import read_hub
from whispertune.errors import DataError


def refused(location: str, reader: AudioReader, origin: str = "") -> str:
    """The one error that both ways give."""
    with pytest.raises(DataError) as downloading:
        read_hub(SourceSpec(location, origin=origin), reader)
    with pytest.raises(DataError) as streaming:
        streamed(SourceSpec(location, origin=origin), reader)
    assert str(downloading.value) == str(streaming.value)
    assert str(streaming.value).count("\n") == 1
    return str(streaming.value)


def test_what_is_not_there_is_one_clear_error(hub: Hub, reader: AudioReader) -> None:
    hub.add_repo("google/fleurs", fleurs())
    unknown = refused("no/such:train", reader, origin="data.train.0")
    assert unknown.startswith("data.train.0: hub:no/such:train: there is no such dataset, or it is private\n  → see")
    assert refused("google/fleurs:sv_s:train", reader) == (
        "hub:google/fleurs:sv_s:train: there is no configuration 'sv_s'\n  → there are: sv_se, de_de"
    )
    assert "no configuration 'validation'" in refused("google/fleurs:validation", reader)
    assert "several configurations\n  → name one, hub:google/fleurs:sv_se; there are: sv_se, de_de" in refused(
        "google/fleurs", reader
    )
    assert "no split 'tset'\n  → the splits are: train, validation" in refused("google/fleurs:sv_se:tset", reader)
    assert "no such revision" in refused("google/fleurs:sv_se:train@v9", reader)
    assert "slices of splits are not read\n  → use limit_rows" in refused("google/fleurs:sv_se:train[:10%]", reader)
    for odd in ("fleurs", "a/b/c", "google/fleurs:sv_se:train:x", "google/fleurs:", ""):
        assert "names no dataset on the hub\n  → write it as hub:repo" in refused(odd, reader)
    hub.add_repo("some/script", {"README.md": b"---\n{}\n---\n", "script.py": b"print()"})
    assert "Python script of its own, which is never run" in refused("some/script:train", reader)
    hub.add_repo("some/empty", {"README.md": b"---\n{}\n---\n"})
    assert "no data files that can be read" in refused("some/empty:train", reader)
    hub.add_repo("some/broken", {"README.md": card({"en": ("train",)}), "en/train-0.parquet": b"PAR1 or so PAR2"})
    assert "some/broken:en: it cannot be read: Parquet magic bytes not found" in refused("some/broken:en", reader)


def test_private_and_gated_datasets_need_a_token(
    hub: Hub, reader: AudioReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add_repo("me/own", fleurs(), private=True)
    hub.add_repo("some/gated", fleurs(), gated=True)
    assert "or it is private\n  → see whether its name is right; for a private one log in" in refused(
        "me/own:sv_se:train", reader
    )
    gated = refused("some/gated:sv_se:train", reader)
    assert f"gated, and you may not read it\n  → ask for access at {hub.url}/datasets/some/gated, then log in" in gated
    monkeypatch.setenv("HF_TOKEN", hub.stranger_token)
    assert "see whether its name is right and your token may read it" in refused("me/own:sv_se:train", reader)
    assert refused("some/gated:sv_se:train", reader).endswith("datasets/some/gated")
    monkeypatch.setenv("HF_TOKEN", "hf_expired")
    assert "the hub does not know your token\n  → log in again" in refused("me/own:sv_se:train", reader)
    monkeypatch.setenv("HF_TOKEN", hub.token)
    assert len(read_hub(SourceSpec("me/own:sv_se:validation"), reader).segments) == 4
    hub.repos["datasets", "some/gated"].readers.add("me")
    assert len(streamed(SourceSpec("some/gated:sv_se:validation"), reader).segments) == 4
    assert {one.user for one in hub.fetched(".parquet")} == {"me"}


def test_a_token_from_logging_in(hub: Hub, reader: AudioReader, tmp_path: Path) -> None:
    hub.add_repo("me/own", fleurs(), private=True)
    (tmp_path / "hub home").mkdir(exist_ok=True)
    (tmp_path / "hub home" / "token").write_text(hub.token)  # as `hf auth login` leaves it
    assert len(streamed(SourceSpec("me/own:sv_se:validation"), reader).segments) == 4


def test_without_a_network(hub: Hub, reader: AudioReader, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets.config
    from huggingface_hub import HfFileSystem, constants

    hub.add_repo("google/fleurs", fleurs())
    before = read_hub(SourceSpec("google/fleurs:sv_se:train+validation"), reader)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", "http://127.0.0.1:9")
    HfFileSystem.clear_instance_cache()
    assert "the hub cannot be reached\n  → see whether the network" in refused("google/other:sv_se:train", reader)
    for read in (read_hub, streamed):  # from the cache
        after = read(SourceSpec("google/fleurs:sv_se:train+validation"), reader)
        assert [(one.id, one.text) for one in after.segments] == [(one.id, one.text) for one in before.segments]
        assert len(reader.read(after.segments[18].recording)) == round(16_000 * after.segments[18].end_s)


def test_columns_that_are_not_known(hub: Hub, reader: AudioReader) -> None:
    from datasets import Audio, Features, Value

    features = Features({"clip": Audio(16_000), "orthography": Value("string"), "translation": Value("string")})
    rows = [{"clip": clip(1, 1.0), "orthography": "ett", "translation": "one"}]
    hub.add_repo("some/odd", {"README.md": card({"sv": ("train",)}), "sv/train-0.parquet": parquet(features, rows)})
    fix = "the columns are: clip, orthography, translation; name the right one in the recipe"
    assert f"some/odd:sv:train: no column is known to hold the text\n  → {fix}" in refused("some/odd:sv", reader)
    with pytest.raises(DataError, match=r"there is no column 'ortography' for text\n"):
        read_hub(SourceSpec("some/odd:sv", columns=(("text", "ortography"),)), reader)
    spec = SourceSpec("some/odd:sv", columns=(("text", "orthography"),))
    assert [(one.text, one.language) for one in read_hub(spec, reader).segments] == [("ett", "sv")]
    translated = streamed(SourceSpec("some/odd:sv", task="translate"), reader).segments
    assert [(one.text, one.language, one.task) for one in translated] == [("one", "sv", "translate")]
    hub.add_repo("google/fleurs", fleurs())
    with pytest.raises(DataError, match="which column holds the translated text"):
        read_hub(SourceSpec("google/fleurs:sv_se", task="translate"), reader)


def test_the_language_of_a_row(hub: Hub, reader: AudioReader) -> None:
    from datasets import Audio, Features, Value

    features = Features({"audio": Audio(16_000), "text": Value("string"), "lang": Value("string")})

    def add(name: str, config: str, *languages: str | None) -> None:
        rows = [{"audio": clip(1, 1.0), "text": "x", "lang": language} for language in languages]
        files = {"README.md": card({config: ("train",)}), f"{config}/train-0.parquet": parquet(features, rows)}
        hub.add_repo(name, files)

    def languages(location: str, language: str | None = None) -> list[str]:
        return [one.language for one in streamed(SourceSpec(location, language=language), reader).segments]

    add("some/mixed", "sv_se", "en-GB", "deu", "Finnish", None, "")
    assert languages("some/mixed:sv_se") == ["en", "de", "fi", "sv", "sv"]
    assert languages("some/mixed:sv_se", "no") == ["en", "de", "fi", "no", "no"]
    add("some/new", "mdw", "mdw")
    assert languages("some/new:mdw", "ln") == ["ln"]
    assert "train:0: Whisper knows no language 'mdw'\n  → set language" in refused("some/new:mdw", reader)
    add("some/names", "cmn_hans_cn", "Mandarin Chinese", "und", "English")
    assert languages("some/names:cmn_hans_cn") == ["zh", "zh", "en"]
    assert languages("some/names:cmn_hans_cn", "ja") == ["ja", "ja", "en"]
    add("some/unknown", "all", None)
    assert 'train:0: nothing says which language this is\n  → set language = "sv"' in refused("some/unknown", reader)
    assert languages("some/unknown", "sv") == ["sv"]


def test_ids_that_repeat_and_texts_that_are_empty(hub: Hub, reader: AudioReader) -> None:
    from datasets import Audio, Features, Value

    features = Features({"audio": Audio(16_000), "text": Value("string"), "id": Value("int64")})
    told = [(7, "a"), (8, ""), (7, "b"), (9, None), (None, "c")]
    rows = [{"audio": clip(n, 1.0), "text": text, "id": id_} for n, (id_, text) in enumerate(told)]
    hub.add_repo("some/ids", {"README.md": card({"sv": ("train",)}), "sv/train-0.parquet": parquet(features, rows)})
    data = read_hub(SourceSpec("some/ids:sv", columns=(("id", "id"),), empty_texts=True), reader)
    assert [(each.id, each.text) for each in data.segments] == [("7", "a"), ("8", ""), ("hub:some/ids:sv:train:4", "c")]
    assert [(each.where, each.kind, each.detail) for each in data.problems] == [
        ("hub:some/ids:sv:train:2", "given twice", "another row has the id '7'"),
        ("hub:some/ids:sv:train:3", "empty text", "text is empty"),
    ]
    by_row = read_hub(SourceSpec("some/ids:sv"), reader)
    assert [each.text for each in by_row.segments] == ["a", "b", "c"]  # nobody asked for these ids
