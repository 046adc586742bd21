from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.mesh import disk
from tests.kit.disks import small_disk

SIZES = st.integers(0, 100 * 1024 * disk.GIB)


@given(held=SIZES, free=SIZES)
def test_output_takes_a_tenth_of_what_it_could_have_within_its_bounds(held: int, free: int) -> None:
    share = disk.output_share(held, free)
    assert disk.LEAST_OUTPUT <= share <= disk.MOST_OUTPUT
    if held <= (held + free) // 10:
        assert share == min(max((held + free) // 10, disk.LEAST_OUTPUT), disk.MOST_OUTPUT)


@given(held=st.integers(0, disk.MOST_OUTPUT), free=SIZES)
def test_kept_output_is_only_dropped_when_the_disk_runs_short(held: int, free: int) -> None:
    if disk.output_share(held, free) < held:
        assert free <= (held + free) // 10 or held <= disk.LEAST_OUTPUT


@given(held=st.integers(0, disk.MOST_OUTPUT), free=SIZES)
def test_what_was_dropped_for_a_share_does_not_make_it_smaller_again(held: int, free: int) -> None:
    share = disk.output_share(held, free)
    dropped = max(held - share, 0)
    assert not disk.is_far(disk.output_share(held - dropped, free + dropped), share)


@given(used=SIZES, free=SIZES)
def test_jetstream_leaves_a_tenth_of_the_free_space_to_others_and_4_gib_at_most(used: int, free: int) -> None:
    limit = disk.limit(used, free)
    assert used <= limit <= used + free
    assert used + free - limit == min(free // 10, 4 * disk.GIB)


@given(used=SIZES, free=SIZES, grown=SIZES)
def test_a_limit_is_not_chosen_anew_for_what_it_held_back_itself(used: int, free: int, grown: int) -> None:
    limit = disk.limit(used, free)
    grown = min(grown, limit - used)
    assert not disk.may_grow(disk.limit(used + grown, free - grown), limit, free)


@pytest.mark.parametrize("freed", [64 * disk.MIB, disk.GIB, 500 * disk.GIB])
def test_a_limit_is_chosen_anew_once_space_was_freed(freed: int) -> None:
    used, free = 5 * disk.GIB, 100 * disk.MIB
    limit = disk.limit(used, free)
    assert disk.may_grow(disk.limit(limit, disk.held_back(free) + freed), limit, free)


def test_reservations_are_read_as_the_server_wrote_them(tmp_path: Path) -> None:
    def stream(name: str, text: str) -> None:
        folder = tmp_path / "$G" / "streams" / name
        folder.mkdir(parents=True)
        (folder / "meta.inf").write_text(text)

    stream("A", json.dumps({"name": "A", "storage": "file", "max_bytes": 5}))
    stream("B", json.dumps({"name": "B", "storage": "file", "max_bytes": -1}))
    stream("C", json.dumps({"name": "C", "storage": "memory", "max_bytes": 7}))
    stream("D", "half a fi")
    stream("E", "[]")
    assert disk.reserved(tmp_path) == 5
    assert disk.reserved(tmp_path / "nowhere") == 0


def test_a_disk_without_any_more_files_is_full(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 16 * disk.MIB) as small:
        assert disk.space(small.path / "not" / "there").free == 16 * disk.MIB
        assert disk.too_little(small.path) is None
        small.fill(leave=disk.MIB)
        assert "1.0 MiB are free, and a mesh needs 4.0 MiB to start" in str(disk.too_little(small.path))
        small.clear()
    with small_disk(tmp_path / "disk", 16 * disk.MIB, files=3) as small:
        (small.path / "one").touch()
        assert disk.space(small.path).free == 16 * disk.MIB
        (small.path / "two").touch()
        assert disk.space(small.path).free == 0
