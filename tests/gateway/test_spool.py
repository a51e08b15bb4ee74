from pathlib import Path

import pytest

from gateway.spool import Spool


def test_opening_sweeps_what_earlier_starts_left(tmp_path: Path) -> None:
    earlier = tmp_path / "00112233445566ff"
    earlier.mkdir()
    (earlier / "abc").write_bytes(b"speech")

    swept = Spool(tmp_path, "aa112233445566ff").open()

    assert swept == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["aa112233445566ff"]


def test_sweeping_leaves_what_is_not_ours(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "keep").touch()
    spool_folder = tmp_path / "spool"
    spool_folder.mkdir()
    (spool_folder / "notes").mkdir()
    (spool_folder / "00112233445566ff").symlink_to(elsewhere)

    assert Spool(spool_folder, "aa112233445566ff").open() == 0

    assert (elsewhere / "keep").exists()
    assert (spool_folder / "notes").exists()


async def test_upload_is_written_named_and_deleted_with_its_chunks(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "aa112233445566ff")
    spool.open()

    async with spool.new_upload() as upload:
        upload.write(memoryview(b"spee"))
        upload.write(memoryview(b"ch"))
        upload.close()
        upload.chunks_path.write_bytes(b"text")
        assert upload.path.read_bytes() == b"speech"
        assert upload.size == 6
        assert tmp_path / upload.name == upload.path

    assert not upload.path.exists()
    assert not upload.chunks_path.exists()


async def test_upload_is_deleted_when_its_work_fails(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "aa112233445566ff")
    spool.open()
    upload = spool.new_upload()

    with pytest.raises(ValueError, match="broken"):
        async with upload:
            upload.write(memoryview(b"speech"))
            raise ValueError("broken")

    assert not upload.path.exists()


def test_closing_removes_this_starts_folder(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "aa112233445566ff")
    spool.open()

    spool.close()

    assert list(tmp_path.iterdir()) == []
