from __future__ import annotations

import pytest

from cslm_data.errors import UsageError
from cslm_data.languages import ISO_639_1, check_language, known_language, language_name


def test_the_table_has_the_183_codes_of_iso_639_1():
    assert len(ISO_639_1) == 183
    assert all(len(code) == 2 for code in ISO_639_1)


@pytest.mark.parametrize("code", ["en", "zh", "yue", "no"])
def test_codes_are_known(code):
    assert known_language(code) and check_language(code, where="--langs") == code


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        ("English", "did you mean en?"),
        ("chinees", "did you mean zh"),
        ("zh-CN", "did you mean zh?"),
        ("en_US", "did you mean en?"),
        ("EN", "did you mean en?"),
        ("", "ISO 639"),
        ("xx", "--langs: unknown language code 'xx'"),
    ],
)
def test_unknown_codes_name_the_place_and_what_is_near(code, hint):
    with pytest.raises(UsageError) as error:
        check_language(code, where="--langs")
    assert hint in str(error.value)


def test_languages_are_called_by_their_name_in_the_language_that_speaks():
    assert language_name("zh", spoken="en") == "Chinese"
    assert language_name("en", spoken="zh") == "英语"
    assert language_name("en", spoken="fi") == "English"
    assert language_name("no", spoken="de") == "Norwegisch"
    assert language_name("fo", spoken="zh") == "fo"
    assert language_name("zh", spoken="fi", names={"en": {"zh": "Mandarin"}}) == "Mandarin"
