"""Paths on disk or on a bucket, as far as they need no bucket."""

import os

import pytest

from research import bucket


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    file = bucket.path(tmp_path / "numbers.json")
    bucket.write_text(file, "first")
    assert file.read_text() == "first" and os.listdir(tmp_path) == ["numbers.json"]

    def killed(self, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(type(file), "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        bucket.write_text(file, "second")
    assert file.read_text() == "first"
