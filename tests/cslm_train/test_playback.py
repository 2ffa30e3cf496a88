from __future__ import annotations

import pytest

from cslm_train.generating.playback import SpeechReady, play


def test_a_listener_waits_for_what_comes_after_all_before_it_was_played() -> None:
    # Units of 0.1 s. The first plays from 1.0 to 2.0; the second is there at 1.5, half a second
    # early, and plays to 2.5; the third comes at 3.25, three quarters late, and plays to 5.25; the
    # fourth, at 5.5, is late by a quarter.
    heard = play(
        [
            SpeechReady(10, 1.0, 20),
            SpeechReady(5, 1.5, 30),
            SpeechReady(20, 3.25, 60),
            SpeechReady(1, 5.5, 70),
        ],
        0.1,
    )
    assert heard is not None
    assert (heard.first_speech_tokens, heard.first_speech_s) == (20, 1.0)
    assert (heard.num_units, heard.num_gaps) == (36, 2)
    assert heard.smallest_margin_s == pytest.approx(-0.75)
    assert heard.gaps_s == pytest.approx(1.0)
    assert heard.speech_s == pytest.approx(3.6)
    assert heard.units_per_second == pytest.approx(36 / 5.5)


def test_generation_that_keeps_ahead_leaves_no_gap() -> None:
    heard = play([SpeechReady(10, 1.0, 12), SpeechReady(10, 2.0, 30), SpeechReady(9, 2.5, 44)], 0.1)
    assert heard is not None
    # The second comes just as it is needed, at 2.0; the third is needed at 3.0.
    assert (heard.smallest_margin_s, heard.num_gaps, heard.gaps_s) == (pytest.approx(0.0), 0, 0.0)


def test_one_stretch_has_no_margin_and_no_speech_has_no_playback() -> None:
    heard = play([SpeechReady(4, 0.5, 9)], 0.02)
    assert heard is not None
    assert (heard.smallest_margin_s, heard.num_gaps) == (None, 0)
    assert play([], 0.02) is None


def test_without_the_duration_of_a_unit_only_the_pace_is_known() -> None:
    heard = play([SpeechReady(4, 0.5, 9), SpeechReady(4, 1.0, 19)], None)
    assert heard is not None
    assert heard.units_per_second == 8.0
    assert (heard.speech_s, heard.smallest_margin_s, heard.num_gaps, heard.gaps_s) == (None,) * 4
