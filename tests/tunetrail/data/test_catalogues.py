"""Translations of interface strings: what is read of gettext's catalogues, and what is not."""

import pytest

from tunetrail.data.catalogues import load_catalogues
from tunetrail.errors import InputError


def translations(language: str) -> dict[str, str]:
    rows = load_catalogues(distribution="Django", language=language)["train"]
    return dict(zip(rows["prompt"], rows["completion"], strict=True))


def test_messages_are_translated_with_their_placeholders_and_contexts() -> None:
    german = translations("de")
    assert 750 < len(german) < 1000
    assert german["Thursday"] == "Donnerstag"
    assert german["%(delta)s ago"] == "%(delta)s her"
    assert german["October [alt. month]"] == "Oktober"
    # The singular, whatever number gettext gives each form.
    assert translations("pl")["%(num)d day"] == "%(num)d dzień"
    assert "" not in german
    assert all(text.strip() for text in german.values())
    assert not any("\x00" in text or "\x04" in text for pair in german.items() for text in pair)
    for message, text in german.items():
        assert message.count("%(") == text.count("%(")


def test_the_files_are_noted_for_provenance() -> None:
    rows = load_catalogues(distribution="Django", language="fr")["train"]
    assert "conf/locale/fr/LC_MESSAGES/django.mo" in rows.info.download_checksums


@pytest.mark.parametrize(("language", "near"), [("pt-br", "pt_BR"), ("deu", "de"), ("en", "en_GB")])
def test_a_language_that_is_not_there_is_refused_with_near_ones(language: str, near: str) -> None:
    with pytest.raises(InputError, match=rf"^data\.language={language}: .* near it are .*{near}"):
        translations(language)
    with pytest.raises(InputError, match="no-such is not installed"):
        load_catalogues(distribution="no-such", language="de")
