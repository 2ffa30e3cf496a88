from __future__ import annotations

import hashlib
import io
from pathlib import Path

import fsspec
import numpy as np
import pytest
import soundfile
from corpus_trees import tone_bytes
from small_files import write_tone

from cslm_data.audio import audio_version, decode, decode_blocks, probe
from cslm_data.audio_store import AudioStore, Window, split_range
from cslm_data.errors import AudioError
from cslm_data.workspace import Workspace

CLIPS = [tone_bytes(hz=300 + 50 * n, seconds=0.3 + 0.1 * n) for n in range(3)]


def keep_all(
    workspace: Workspace, clips: list[bytes], source: str = "/data/x.parquet"
) -> list[str]:
    with AudioStore(workspace, source) as store:
        return [store.keep(f"clip {number}", clip) for number, clip in enumerate(clips)]


def packs(workspace: Workspace) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in workspace.audio.iterdir()}


def test_a_pack_is_the_recordings_one_after_the_other_and_nothing_else(
    workspace: Workspace,
) -> None:
    addresses = keep_all(workspace, CLIPS)
    [(name, content)] = packs(workspace).items()
    assert content == b"".join(CLIPS)
    assert addresses[0] == f"{workspace.audio / name}#bytes=0-{len(CLIPS[0])}"
    assert addresses[2].endswith(f"#bytes={len(CLIPS[0] + CLIPS[1])}-{len(CLIPS[2])}")


def test_a_range_sounds_and_hashes_as_the_file_it_came_from(
    workspace: Workspace, tmp_path: Path
) -> None:
    for address, clip in zip(keep_all(workspace, CLIPS), CLIPS, strict=True):
        file = tmp_path / "clip.flac"
        file.write_bytes(clip)
        assert probe(address) == probe(str(file))
        assert audio_version(address) == audio_version(str(file))
        np.testing.assert_array_equal(decode(address), decode(str(file)))
        stretch = {"offset_s": 0.1, "duration_s": 0.15, "sample_rate_hz": 8000}
        np.testing.assert_array_equal(decode(address, **stretch), decode(str(file), **stretch))
        blocks = np.concatenate(list(decode_blocks(address)))
        np.testing.assert_array_equal(blocks, decode(str(file)))


@pytest.mark.parametrize("ending", ["wav", "ogg", "mp3", "flac"])
def test_every_container_is_read_out_of_a_pack(
    workspace: Workspace, tmp_path: Path, ending: str
) -> None:
    path = write_tone(tmp_path / f"a.{ending}", seconds=0.7, rate=22050, channels=2)
    _, address, _ = keep_all(workspace, [CLIPS[0], path.read_bytes(), CLIPS[1]])
    assert probe(address) == probe(str(path))
    np.testing.assert_array_equal(decode(address), decode(str(path)))


def test_an_address_can_be_opened_before_its_pack_has_its_name(workspace: Workspace) -> None:
    with AudioStore(workspace, "/data/x") as store:
        first = store.keep("one", CLIPS[0])
        assert probe(first).duration_s == 0.3
        second = store.keep("two", CLIPS[1])
        assert probe(first).duration_s == 0.3
        assert probe(second).duration_s == 0.4
        assert not Path(split_range(first)[0]).exists()
    assert probe(second).duration_s == 0.4


def test_a_source_that_fails_leaves_the_pack_as_it_was(workspace: Workspace) -> None:
    keep_all(workspace, CLIPS[:2])
    before = packs(workspace)
    with pytest.raises(RuntimeError), AudioStore(workspace, "/data/x.parquet") as store:
        store.keep("another", CLIPS[2])
        raise RuntimeError
    assert packs(workspace) == before
    with pytest.raises(RuntimeError), AudioStore(workspace, "/data/other") as store:
        store.keep("another", CLIPS[2])
        raise RuntimeError
    assert packs(workspace) == before


def test_what_a_killed_process_left_is_removed_by_the_next(workspace: Workspace) -> None:
    keep_all(workspace, CLIPS)
    [name] = packs(workspace)
    leftover = workspace.audio / f".{name}.12345678.tmp"
    leftover.write_bytes(b"half")
    keep_all(workspace, CLIPS)
    assert list(packs(workspace)) == [name]


def test_the_same_audio_again_leaves_the_file_untouched(workspace: Workspace) -> None:
    first = keep_all(workspace, CLIPS)
    [name] = packs(workspace)
    inode = (workspace.audio / name).stat().st_ino
    assert keep_all(workspace, CLIPS) == first
    assert (workspace.audio / name).stat().st_ino == inode


@pytest.mark.parametrize(
    "clips",
    [
        [CLIPS[0], CLIPS[2]],
        [CLIPS[2], CLIPS[1], CLIPS[0]],
        [*CLIPS, CLIPS[0]],
        CLIPS[:1],
        [CLIPS[0][:-1]],
    ],
)
def test_changed_audio_gives_the_pack_that_a_new_workspace_would_have(
    workspace: Workspace, tmp_path: Path, clips: list[bytes]
) -> None:
    keep_all(workspace, CLIPS)
    keep_all(workspace, clips)
    other = Workspace(tmp_path / "other")
    keep_all(other, clips)
    assert packs(workspace) == packs(other)


def test_changed_audio_is_read_from_the_new_pack_while_it_is_made(workspace: Workspace) -> None:
    keep_all(workspace, CLIPS)
    with AudioStore(workspace, "/data/x.parquet") as store:
        same, new = store.keep("same", CLIPS[0]), store.keep("new", CLIPS[2])
        assert [round(probe(address).duration_s, 3) for address in (same, new)] == [0.3, 0.5]


def test_a_source_without_audio_inside_has_no_pack(workspace: Workspace) -> None:
    keep_all(workspace, [])
    assert not workspace.audio.exists()
    keep_all(workspace, CLIPS)
    keep_all(workspace, [])
    assert packs(workspace) == {}


def test_ranges_that_are_not_there_are_clear_errors(workspace: Workspace, tmp_path: Path) -> None:
    address = keep_all(workspace, CLIPS)[2]
    pack = split_range(address)[0]
    size = Path(pack).stat().st_size
    for uri, reason in (
        (f"{pack}#bytes=0-0", "empty"),
        (f"{pack}#bytes={size - 5}-6", "truncated"),
        (f"{pack}#bytes=3-20", "unreadable"),
        (f"{tmp_path}/gone.pack#bytes=0-10", "missing"),
        (f"{pack}#bytes=0-", "missing"),
        (f"{pack}#bytes=-5-10", "missing"),
    ):
        with pytest.raises(AudioError) as caught:
            probe(uri)
        assert caught.value.reason == reason, uri


def test_a_range_of_a_file_elsewhere_is_read(tmp_path: Path) -> None:
    filesystem = fsspec.filesystem("memory")
    filesystem.pipe("/store/all.pack", b"".join(CLIPS))
    address = f"memory://store/all.pack#bytes={len(CLIPS[0])}-{len(CLIPS[1])}"
    assert probe(address).duration_s == 0.4
    assert (
        audio_version(address)
        == hashlib.blake2b(
            len(CLIPS[1]).to_bytes(8, "little") + CLIPS[1] + CLIPS[1], digest_size=8
        ).hexdigest()
    )
    assert len(decode(address)) == 6400


def test_a_wav_cut_short_inside_of_a_pack_is_noticed(workspace: Workspace) -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros(8000), 16000, format="WAV")
    _, cut, _ = keep_all(workspace, [CLIPS[0], buffer.getvalue()[:-4000], CLIPS[1]])
    with pytest.raises(AudioError, match="truncated"):
        probe(cut)


def test_a_window_ends_where_it_ends() -> None:
    window = Window(io.BytesIO(b"0123456789"), 3, 4)
    assert window.read() == b"3456"
    assert window.seek(-1, io.SEEK_END) == 3
    assert window.read(10) == b"6"
    assert window.seek(20) == 20
    assert window.read(1) == b""
    assert (window.seek(1), window.seek(1, io.SEEK_CUR), window.read(1)) == (1, 2, b"5")
