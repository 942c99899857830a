"""What a recipe says of a source, as the source is asked for it."""

from __future__ import annotations

import pytest

from whispertune.errors import RecipeError
from whispertune.recipe import SourceTable
from whispertune.sources_of import source_spec


def language(own: str | None, of_the_recipe: str | None) -> str | None:
    table = SourceTable(source="talks", language=own)
    return source_spec(table, language=of_the_recipe, task="transcribe", origin="data.train.0").language


@pytest.mark.parametrize("written", ["sv", "sv-SE", "swe", "Swedish", " swedish "])
def test_a_language_is_that_of_whisper_however_it_is_written(written: str) -> None:
    assert language(written, None) == "sv"
    assert language(None, written) == "sv"
    assert language(written, "klingon") == "sv"


def test_a_code_that_whisper_does_not_have_stays() -> None:
    assert language("mdw", "sv") == "mdw"
    assert language(None, None) is None


def test_what_is_no_language_is_named_with_its_key_and_the_nearest() -> None:
    with pytest.raises(RecipeError, match=r"^data\.train\.0\.language: .* 'Swedisch'\n.*the nearest: Swedish \(sv\)"):
        language("Swedisch", "sv")
    with pytest.raises(RecipeError, match=r"^language: Whisper has no language 'qqqq'\n.*borrow the code"):
        language(None, "qqqq")
