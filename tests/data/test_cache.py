import pytest

from vitgan.data.cache import cache_folder
from vitgan.errors import UserError


def test_the_cache_folder_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("VITGAN_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("VITGAN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "vitgan"
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("VITGAN_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match="set VITGAN_CACHE"):
        cache_folder()
