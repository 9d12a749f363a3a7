"""SAM-SGT tars are paired by stem across shards of other order and size, and everything that cannot be paired is named."""

import pickle

import pytest

from sgt_jax.data.sources import open_source
from sgt_jax.data.sources.sam_sgt_tars import SamSgtTars
from sgt_jax.errors import DataError
from tests.support import hostile_files as hostile
from tests.support.reading import kinds, read_all


def photo(number, folder="sam_selection/", name=None, suffix=".jpg"):
    return f"{folder}{name or f'sa_{number}'}{suffix}", hostile.numbered(number)


def mask(number, folder="sam_mask/", name=None):
    return f"{folder}{name or f'sa_{number}'}.png", hostile.numbered(number, form="PNG")


def assert_pairs(good, numbers):
    """Each photo came with its own mask."""
    assert sorted(hostile.number_of(e.image) for e in good.values()) == sorted(numbers)
    assert all(hostile.number_of(e.image) == hostile.number_of(e.mask_picture) for e in good.values())


@pytest.fixture
def root(tmp_path):
    """Six pairs: the families are cut at other places and in another order; names that break text replacement."""
    root = tmp_path / "my_jpgs" / "sam_selection"
    odd = dict(folder="./sam_selection/jpg/sam_selection/", name="a.jpg.b")
    hostile.tar(root / "sam_selection/sam_selection-00001.tar",
                [hostile.tar_folder("sam_selection"), photo(0), photo(1, suffix=".JPG"), photo(2)])  # fmt: skip
    others = [("sam_selection/._sa_3.jpg", b"fork"), ("readme.txt", b"hi")]
    hostile.tar(root / "sam_selection/sam_selection-00002.tar", [photo(3), photo(4), photo(5, **odd), *others])
    hostile.tar(root / "sam_mask/sam_mask-00001.tar",
                [mask(4), mask(0), mask(5, folder="sam_mask/jpg/sam_selection/", name="a.jpg.b"), mask(3)])  # fmt: skip
    hostile.tar(root / "sam_mask/sam_mask-00002.tar", [mask(2), mask(1)])
    return root


def test_pairs_across_shards_of_other_order_and_size(root):
    source = open_source({"type": "sam_sgt_tars", "root": str(root)})
    good, bad = read_all(source)
    assert_pairs(good, range(6))
    assert not bad and len(source) == 6 == len(good)
    assert [source[i].name for i in (0, 5)] == [
        "sam_selection/sam_selection-00001.tar/sam_selection/sa_0.jpg",
        "sam_selection/sam_selection-00002.tar/sam_selection/sa_4.jpg",
    ]
    assert pickle.loads(pickle.dumps(source))[2].name == source[2].name
    assert len(SamSgtTars(root, limit=2)) == 2
    with pytest.raises(IndexError):
        source[6]


def test_members_without_family_folders_are_told_apart_by_their_tar(tmp_path):
    hostile.tar(tmp_path / "sam_selection-1.tar", [photo(1, ""), photo(2, "x/")])
    hostile.tar(tmp_path / "sam_mask-1.tar", [mask(2, "x/"), mask(1, "")])
    assert_pairs(read_all(SamSgtTars(tmp_path))[0], [1, 2])


def test_families_packed_from_different_folders_are_paired_by_file_name(tmp_path):
    hostile.tar(tmp_path / "sam_selection-1.tar", [photo(1, "sam_selection/sa_000001/"), photo(2, "sam_selection/b/")])
    hostile.tar(tmp_path / "sam_mask-1.tar", [mask(2, ""), mask(1, "")])
    assert_pairs(read_all(SamSgtTars(tmp_path))[0], [1, 2])


def test_a_file_name_alone_makes_no_pair_where_paths_agree(tmp_path):
    hostile.tar(tmp_path / "sam_selection-1.tar", [photo(1, "x/"), photo(2, "y/")])
    hostile.tar(tmp_path / "sam_mask-1.tar", [mask(1, "x/"), mask(3, "z/", "sa_2")])
    source = SamSgtTars(tmp_path, on_bad="skip")
    assert_pairs(read_all(source)[0], [1])
    assert kinds(source.left_out) == {"missing mask": 1, "missing photo": 1}


def test_pairs_side_by_side_in_one_tar_though_every_tar_counts_from_zero(tmp_path):
    for shard in range(2):
        members = [photo(2 * shard + n, "", f"{n:04}") for n in range(2)]
        members += [mask(2 * shard + n, "", f"{n:04}") for n in (1, 0)]
        hostile.tar(tmp_path / f"pairs-{shard}.tar", members)
    assert_pairs(read_all(SamSgtTars(tmp_path))[0], range(4))


def test_what_cannot_be_used_is_counted_and_named_and_the_rest_arrives(root, caplog):
    hostile.tar(
        root / "sam_selection/sam_selection-00003.tar",
        [
            photo(6),
            photo(7),  # no mask
            ("../outside.jpg", hostile.numbered(8)),
            ("/etc/absolute.jpg", hostile.numbered(8)),
            hostile.tar_link("sam_selection/link.jpg", "/etc/passwd"),
            hostile.tar_link("sam_selection/hard.jpg", "sam_selection/sa_6.jpg", hard=True),
            photo(6),
            photo(9),
            ("sam_selection/empty.jpg", b""),
            ("sam_selection/cut.jpg", hostile.truncated_jpeg()),
        ],
    )
    hostile.tar(root / "sam_mask/sam_mask-00003.tar",
                [mask(6), mask(9), mask(10), mask(1, name="empty"), mask(1, name="cut"), mask(1, name="link")])  # fmt: skip
    with pytest.raises(DataError, match=r"outside.jpg: points outside the archive.*\(8 such in all\)"):
        SamSgtTars(root)
    source = SamSgtTars(root, on_bad="skip")
    good, bad = read_all(source)
    assert_pairs(good, [0, 1, 2, 3, 4, 5, 6, 9])
    expected = {"unsafe member": 2, "link in archive": 2, "duplicate member": 1, "missing mask": 1, "missing photo": 2}
    assert kinds(source.left_out) == expected
    assert kinds(bad) == expected | {"unreadable member": 1, "unreadable picture": 1}
    assert "sa_7.jpg: has no mask in any tar" in caplog.text and "1 missing mask" in caplog.text


def test_a_key_in_two_shards_is_ambiguous(root):
    hostile.tar(root / "sam_mask/sam_mask-00009.tar", [mask(1)])
    source = SamSgtTars(root, on_bad="skip")
    assert kinds(source.left_out) == {"ambiguous pair": 1} and len(source) == 5
    assert "sam_mask-00009.tar" in source.left_out[0].reason


@pytest.mark.parametrize("keep", ["member", "boundary", "joined", "no tar"])
def test_tars_that_break_off_are_named_and_their_whole_members_used(root, keep):
    path = root / "sam_mask/sam_mask-00001.tar"
    data = path.read_bytes()
    block = 512 + (len(mask(4)[1]) + 511) // 512 * 512
    path.write_bytes(
        {
            "member": data[: block + 540],  # inside the second member
            "boundary": data[: 2 * block],  # as whole members, but without the end mark
            "joined": data + data,
            "no tar": b"<html>404</html>" * 100,
        }[keep]
    )
    source = SamSgtTars(root, on_bad="skip")
    whole = {"member": [4], "boundary": [4, 0], "joined": [4, 0, 5, 3], "no tar": []}[keep]
    assert_pairs(read_all(source)[0], [1, 2, *whole])
    assert kinds(source.left_out) == {"broken archive": 1} | (
        {"missing mask": 4 - len(whole)} if whole != [4, 0, 5, 3] else {}
    )
    assert str(path) in source.left_out[0].reason
    with pytest.raises(DataError, match=r"sam_mask-00001.tar: breaks off"):
        SamSgtTars(root)


def test_nothing_to_read_says_what_to_do(tmp_path):
    with pytest.raises(DataError, match="holds no .tar file; type 'sam_sgt'"):
        SamSgtTars(tmp_path)
    hostile.tar(tmp_path / "a.tar", [("x.txt", b"")])
    with pytest.raises(DataError, match="no photo with a mask in 1 tars"):
        SamSgtTars(tmp_path)
    with pytest.raises(DataError, match="mount the bucket"):
        SamSgtTars("gs://bucket/sam")
