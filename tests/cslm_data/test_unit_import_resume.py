from __future__ import annotations

import pytest
from speech_catalog import add_many, files, forget, run, units

from cslm_data.errors import LockedError
from cslm_data.tokenizers.tokenizer_folders import find_tokenizer
from cslm_data.units import importing as unit_import
from cslm_data.units.exporting import export_units
from cslm_data.units.importing import import_units
from cslm_data.units.parts import write_part


@pytest.fixture
def spoken(workspace, tmp_path):
    """Eight recordings in units."""
    add_many(workspace, tmp_path / "audio", 8)
    run(workspace)
    return workspace


def counts(summary):
    return summary.num_out, summary.num_already, summary.num_rejected


@pytest.fixture
def small_parts(monkeypatch):
    """A part for every two utterances."""
    monkeypatch.setattr(unit_import, "_PART_S", 2.0)


def stop_after(monkeypatch, number):
    """Let `number` parts be written, then die."""
    written = []

    def dying(folder, name, rows, schema):
        if len(written) == number:
            raise KeyboardInterrupt
        written.append(name)
        write_part(folder, name, rows, schema)

    monkeypatch.setattr(unit_import, "write_part", dying)


def test_a_kill_between_parts_loses_and_repeats_nothing(spoken, tmp_path, small_parts, monkeypatch):
    export_units(spoken, tmp_path / "out", format="slamkit")
    forget(spoken)
    import_units(spoken, tmp_path / "out", format="slamkit")
    whole = files(spoken)
    assert len(whole) == 1 + 4
    for number in (0, 2):
        forget(spoken)
        with monkeypatch.context() as patch:
            stop_after(patch, number)
            with pytest.raises(KeyboardInterrupt):
                import_units(spoken, tmp_path / "out", format="slamkit")
        assert len(files(spoken)) == 1 + number
        summary = import_units(spoken, tmp_path / "out", format="slamkit")
        assert counts(summary) == (8 - 2 * number, 2 * number, 0)
        assert files(spoken) == whole


def test_quantize_finishes_what_an_import_left(spoken, tmp_path, small_parts, monkeypatch):
    before = units(spoken)
    export_units(spoken, tmp_path / "out", format="slamkit")
    forget(spoken)
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            import_units(spoken, tmp_path / "out", format="slamkit")
    done = run(spoken)
    assert (done.num_out, done.num_already) == (6, 2)
    assert units(spoken) == before


def test_what_quantize_has_begun_is_left_to_it(spoken, tmp_path):
    export_units(spoken, tmp_path / "out", format="slamkit")
    (part,) = next(spoken.units.iterdir()).glob("part-*")
    part.unlink()
    features = tmp_path / "out" / "all.features.jsonl"
    features.write_text("\n".join(features.read_text().splitlines()[:7]) + "\n")
    summary = import_units(spoken, tmp_path / "out", format="slamkit")
    assert summary.reject_reasons == {"planned": 7}
    assert units(spoken) == []
    assert run(spoken).num_out == 8


def test_more_utterances_join_in_a_plan_of_their_own(spoken, tmp_path):
    export_units(spoken, tmp_path / "out", format="slamkit")
    forget(spoken)
    features = tmp_path / "out" / "all.features.jsonl"
    lines = features.read_text().splitlines()
    features.write_text("\n".join(lines[:3]) + "\n")
    assert counts(import_units(spoken, features, format="slamkit")) == (3, 0, 0)
    features.write_text("\n".join(lines) + "\n")
    assert counts(import_units(spoken, features, format="slamkit")) == (5, 3, 0)
    assert sorted(name.rsplit("/", 1)[1] for name in files(spoken)) == [
        "part-0000-00000.parquet",
        "part-0001-00000.parquet",
        "plan-0000.parquet",
        "plan-0001.parquet",
    ]
    assert len(units(spoken)) == 8


def test_two_writers_of_one_tokenizer_do_not_meet(spoken, tmp_path):
    export_units(spoken, tmp_path / "out", format="slamkit")
    used = find_tokenizer(spoken, None)
    with (
        spoken.lock(f"units-{used.tokenizer_id}", "quantize"),
        pytest.raises(LockedError, match="quantize"),
    ):
        import_units(spoken, tmp_path / "out", format="slamkit")
