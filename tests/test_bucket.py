"""Paths on disk or on a bucket, tested without a bucket."""

import os

import pytest

from research import bucket


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    synced = []
    flush = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (synced.append(handle), flush(handle)))
    file = bucket.path(tmp_path / "numbers.json")
    bucket.write_whole(file, "first")
    assert file.read_text() == "first" and os.listdir(tmp_path) == ["numbers.json"]
    assert len(synced) == 2  # the file and its folder

    def killed(self, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(type(file), "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        bucket.write_whole(file, "second")
    assert file.read_text() == "first"
