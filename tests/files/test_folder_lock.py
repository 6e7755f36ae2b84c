import pytest

from lrfr_jax.errors import UserError
from lrfr_jax.files import folder_lock


def test_the_second_is_told_and_the_third_may_follow(tmp_path):
    with folder_lock.alone_in(tmp_path):
        with pytest.raises(UserError, match=f"another process is writing into {tmp_path}"):  # noqa: SIM117
            with folder_lock.alone_in(tmp_path):
                pass
        (tmp_path / "file").touch()
    with folder_lock.alone_in(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_without_locks_the_work_goes_on(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise OSError("no locks available")

    monkeypatch.setattr(folder_lock.fcntl, "flock", refuse)
    with folder_lock.alone_in(tmp_path):
        pass


def test_an_error_inside_is_passed_on_and_frees_the_folder(tmp_path):
    for _ in range(2):
        with pytest.raises(OSError, match="disk full"), folder_lock.alone_in(tmp_path):
            raise OSError("disk full")
