"""What is written exists whole or not at all; what cannot be read is told in one line."""

import errno

import pytest
from safetensors import SafetensorError

from hardness.files import atomic_write, one_line


def test_the_target_is_what_was_written_and_nothing_stands_beside_it(tmp_path):
    target = tmp_path / "deep" / "file"
    for content in (b"first", b"second"):
        with atomic_write(target) as partial:
            partial.write_bytes(content)
        assert target.read_bytes() == content
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, MemoryError])
def test_no_partial_is_left_whatever_stops_a_write(tmp_path, stop):
    def stopped():
        with atomic_write(tmp_path / "deep" / "file") as partial:
            partial.write_bytes(b"half")
            raise stop

    with pytest.raises(stop):
        stopped()
    assert list((tmp_path / "deep").iterdir()) == []


def test_a_failed_write_leaves_the_target_as_it_was(tmp_path):
    target = tmp_path / "file"
    target.write_bytes(b"before")

    def failed():
        with atomic_write(target) as partial:
            partial.write_bytes(b"half")
            raise ValueError("half")

    with pytest.raises(ValueError, match="half"):
        failed()
    assert target.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    ("said", "expected"),
    [("No space left on device (os error 28)", errno.ENOSPC), ("something else", errno.EIO)],
)
def test_an_error_of_safetensors_is_one_of_the_system(tmp_path, said, expected):
    with pytest.raises(OSError, match=said.split(" (")[0]) as caught, atomic_write(tmp_path / "f"):
        raise SafetensorError(said)
    assert caught.value.errno == expected
    assert isinstance(caught.value.__cause__, SafetensorError)


def test_an_error_is_told_in_one_line_of_bearable_length():
    assert one_line(ValueError("a\n  b\tc")) == "ValueError: a b c"
    assert one_line(ValueError("x" * 10_000)) == f"ValueError: {'x' * 200}"
    assert one_line(EOFError()) == "EOFError"
