"""Depth, normals and stereo views: near is bright, planes have one normal, unknown pixels are handled, maps are found."""

import matplotlib
import numpy as np
import pytest
from PIL import Image
from skimage import data

from sgt_jax.data.examples import Example
from sgt_jax.data.pictures import maps
from sgt_jax.data.proxies import make_pair
from sgt_jax.data.proxies.depth import metric_picture, read_metric
from sgt_jax.errors import DataError

RNG = np.random.default_rng(0)
INFERNO = np.round(np.array(matplotlib.colormaps["inferno"].colors) * 255)


def example(depth=None, hw=(40, 60), name="set/a.jpg", **extra):
    return Example(name, np.full((*hw, 3), 50, np.uint8), depth=depth, extra=extra)


def level(picture):
    """Where each pixel lies in inferno, 0 to 255; all must be in it."""
    gaps = np.abs(INFERNO - picture[:, :, None].astype(float)).sum(-1)
    assert gaps.min(-1).max() == 0
    return gaps.argmin(-1)


def slope(hw=(40, 60)):
    """1 m at the left, 5 m at the right."""
    return np.broadcast_to(np.linspace(1, 5, hw[1], dtype=np.float32), hw)


@pytest.mark.parametrize("scale", ["inverse", "linear"])
def test_depth_is_monotone_and_near_is_bright(scale):
    picture = make_pair("depth", example(slope()), RNG, scale=scale, clip=0.0).target
    levels = level(picture)[0]
    assert levels[0] == 255 and levels[-1] == 0 and (np.diff(levels) <= 0).all() and len(set(levels)) == 60
    brightness = picture[0] @ (0.299, 0.587, 0.114)
    assert (np.diff(brightness) < 0).all()
    halfway = level(picture)[0][30] / 255  # about 3 m of 1 to 5
    near = {"inverse": (1 / 3 - 1 / 5) / (1 - 1 / 5), "linear": 0.5}[scale]
    assert abs(halfway - near) < 0.02


def test_grey_depth_and_extremes_that_are_clipped():
    depth = slope().copy()
    depth[0, 0] = 0.01  # one stray reading must not take the whole range
    grey = make_pair("depth", example(depth), RNG, colours="grey").target
    assert (np.ptp(grey, axis=2) == 0).all() and grey[5, 2, 0] > 200 and grey[5, -2, 0] < 10
    raw = make_pair("depth", example(depth), RNG, colours="grey", clip=0.0).target
    assert raw[5, 2, 0] < 10
    constant = make_pair("depth", example(np.full((40, 60), 2.0)), RNG, colours="grey").target
    assert (constant == 128).all()


def test_unknown_depth_is_filled_smoothly_or_painted_or_refused():
    depth = slope().copy()
    depth[10:30, 20:40] = np.nan
    depth[0, 0], depth[0, 1], depth[0, 2] = 0, -3, np.inf  # no distances either
    holes = ~np.isfinite(depth) | (depth <= 0)
    whole = level(make_pair("depth", example(slope()), RNG, clip=0.0).target).astype(int)
    filled = level(make_pair("depth", example(depth), RNG, clip=0.0).target).astype(int)
    assert np.abs(filled - whole)[~holes].max() <= 6  # the nearest pixels of the first row are gone from the range
    assert np.abs(filled - whole)[10:30, 20:40].mean() < 20
    blue = make_pair("depth", example(depth), RNG, unknown=(0, 0, 255)).target
    np.testing.assert_array_equal((blue == (0, 0, 255)).all(-1), holes)
    depth[:, 5:] = np.nan
    with pytest.raises(DataError, match=r"set/a.jpg: depth is known at 8.2% of the pixels, less than least_known=0.2"):
        make_pair("depth", example(depth), RNG)
    make_pair("depth", example(depth), RNG, least_known=0.05)
    with pytest.raises(DataError, match=r"known at 0.0%"):
        make_pair("depth", example(np.full((40, 60), np.nan)), RNG, least_known=0)
    with pytest.raises(DataError, match=r"set/a.jpg: depth \(3, 4\) is not of the picture's size \(40, 60\)"):
        make_pair("depth", example(np.ones((3, 4))), RNG)
    with pytest.raises(DataError, match="colours='mauve' must be one of inferno, grey, metric"):
        make_pair("depth", example(slope()), RNG, colours="mauve")


def test_the_metric_code_is_read_back():
    metres = np.geomspace(0.05, 200, 4000, dtype=np.float32).reshape(40, 100)
    picture = make_pair("depth", example(metres, (40, 100)), RNG, colours="metric").target
    np.testing.assert_array_equal(picture, metric_picture(metres))
    back = read_metric(picture)
    # One level of 7 * 255 of the compressed depth f: dd = (10 + d)^3 / 200 df.
    allowed = 0.51 / (7 * 255) * (10 + metres) ** 3 / 200 * 1.5 + 1e-3
    assert (np.abs(back - metres) < allowed)[metres < 100].all()
    assert tuple(metric_picture(np.zeros((1, 1)))[0, 0]) == (0, 0, 0)
    assert tuple(metric_picture(np.full((1, 1), np.inf))[0, 0]) == (255, 255, 255)
    rng = np.random.default_rng(0)
    noisy = np.clip(picture + rng.integers(-12, 13, picture.shape), 0, 255).astype(np.uint8)
    inner = (metres > 0.5) & (metres < 10)
    assert np.median(np.abs(read_metric(noisy) / metres - 1)[inner]) < 0.02


def camera_rays(hw, fx, fy, cx, cy):
    v, u = np.indices(hw)
    return np.stack([(u - cx) / fx, (v - cy) / fy, np.ones(hw)], axis=2)


@pytest.mark.parametrize("normal", [(0, 0, 1), (0.5, 0, 1), (0, 0.8, 1), (-0.4, 0.6, 0.7)])
def test_normals_of_a_plane_are_constant_and_its_own(normal):
    """`normal` is in the picture's convention: x right, y up, z towards the viewer."""
    normal = np.array(normal) / np.linalg.norm(normal)
    camera = (50.0, 55.0, 28.0, 21.0)
    away = normal * (-1, 1, 1)  # the same plane's normal, pointing away, in x right, y down, z forwards
    depth = 3 / (camera_rays((40, 60), *camera) @ away)
    assert (depth > 0).all()
    target = make_pair("normals", example(depth.astype(np.float32), intrinsics=camera), RNG, blur=0.0).target
    np.testing.assert_allclose(target, np.broadcast_to((normal + 1) * 127.5, target.shape), atol=1.01)
    smoothed = make_pair("normals", example(depth.astype(np.float32), intrinsics=camera), RNG, blur=0.02).target
    np.testing.assert_allclose(smoothed[8:-8, 8:-8], target[8:-8, 8:-8], atol=2)


def test_field_of_view_stands_in_for_an_unknown_camera():
    focal = 30 / np.tan(np.radians(45))
    depth = (3 / (camera_rays((40, 60), focal, focal, 29.5, 19.5) @ (0.3, 0, 1))).astype(np.float32)
    known = make_pair("normals", example(depth, intrinsics=(focal, focal, 29.5, 19.5)), RNG).target
    np.testing.assert_array_equal(make_pair("normals", example(depth), RNG, field_of_view=90).target, known)


def test_normals_at_a_jump_keep_their_own_surface_and_unknown_ones_are_filled():
    depth = np.full((40, 60), 4.0, np.float32)
    depth[10:30, 20:40] = 2
    facing = np.broadcast_to((128, 128, 255), (40, 60, 3))
    np.testing.assert_array_equal(make_pair("normals", example(depth), RNG, blur=0.0).target, facing)
    depth[5:20, 5:50] = np.nan
    np.testing.assert_array_equal(make_pair("normals", example(depth), RNG, blur=0.0).target, facing)
    depth[:, 3:] = np.nan
    with pytest.raises(DataError, match="set/a.jpg: depth is known at 5.0% of the pixels"):
        make_pair("normals", example(depth), RNG)


def test_real_disparity_gives_an_upright_floor():
    left, right, disparity = data.stereo_motorcycle()
    metres = np.where(np.isfinite(disparity), 0.193001 * 994.978 / (disparity + 31.086), np.nan)
    pair_of = Example(
        "m", left, (left, right), depth=metres, extra={"intrinsics": (994.978, 994.978, 311.193, 254.877)}
    )
    target = make_pair("normals", pair_of, RNG).target.astype(int)
    floor = np.median(target[460:490, 50:300].reshape(-1, 3), axis=0)
    assert floor[1] > 240 and abs(floor[0] - 128) < 25, floor  # green: upwards
    assert (make_pair("stereo_view", pair_of, RNG).target == right).all()
    depth = make_pair("depth", pair_of, RNG, colours="grey").target
    assert depth[470:490, 300:500].mean() > 200 > 60 > depth[:40, 350:600].mean(), "the floor is near, the wall is far"


def test_stereo_pairs_that_are_none():
    photo = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(DataError, match="s: proxy 'stereo_view' needs a stereo pair"):
        make_pair("stereo_view", Example("s", photo, images=(photo,) * 3), RNG)
    with pytest.raises(DataError, match="s: the pictures of a stereo pair must be of one size, not 8x8 and 4x8"):
        make_pair("stereo_view", Example("s", photo, images=(photo, photo[:, :4])), RNG)


def write_maps(root):
    """The same slope in every format."""
    metres = slope()
    for folder in ("png/set", "npy/set", "npz/set", "flat"):
        (root / folder).mkdir(parents=True)
    Image.fromarray(np.round(metres * 1000).astype(np.uint16)).save(root / "png/set/a.png")
    np.save(root / "npy/set/a.npy", metres.astype(np.float64))
    np.savez(root / "npz/set/a.npz", anything=metres[:, :, None].astype(np.float16))
    np.save(root / "flat/a.npy", 1 / metres)
    return metres


def test_depth_from_a_folder_of_maps_in_every_format(tmp_path):
    metres = write_maps(tmp_path)
    expected = level(make_pair("depth", example(metres), RNG).target)
    for folder, options in (
        ("png", dict(unit=0.001)),
        ("npy", {}),
        ("npz", {}),
        ("flat", dict(inverse=True)),
    ):
        found = make_pair("depth", example(folder=None), RNG, folder=str(tmp_path / folder), **options)
        assert np.abs(level(found.target) - expected).max() <= 1, folder
    # The folder wins over the example's own depth, and a map of another size is brought to the photo's.
    far = example(np.ones((80, 120), np.float32), (80, 120))
    target = make_pair("depth", far, RNG, folder=str(tmp_path / "npy")).target
    assert target.shape == (80, 120, 3) and np.abs(level(target)[::2, ::2] - expected).max() <= 2


def test_maps_of_normals(tmp_path):
    vectors = np.zeros((40, 60, 3), np.float32)
    vectors[:, :30] = (0, 0.6, 0.8)
    vectors[:, 30:] = (1, 0, 0)
    np.save(tmp_path / "a.npy", vectors * 3)  # of any length
    target = make_pair("normals", example(), RNG, folder=str(tmp_path)).target
    np.testing.assert_allclose(target[0, [0, 59]], [(127.5, 204, 229.5), (255, 127.5, 127.5)], atol=0.51)
    flipped = make_pair("normals", example(), RNG, folder=str(tmp_path), flip="yz").target
    np.testing.assert_allclose(flipped[0, 0], (127.5, 51, 25.5), atol=0.51)
    (tmp_path / "a.npy").unlink()
    Image.fromarray(target).save(tmp_path / "a.png")
    again = make_pair("normals", example(), RNG, folder=str(tmp_path)).target
    np.testing.assert_allclose(again.astype(int), target, atol=1)
    with pytest.raises(DataError, match=r"flip='q' names no axes \['q'\]"):
        make_pair("normals", example(), RNG, folder=str(tmp_path), flip="q")
    np.save(tmp_path / "b.npy", vectors * 0)
    with pytest.raises(DataError, match=r"set/b.jpg: normals are known at 0.0%"):
        make_pair("normals", example(name="set/b.jpg"), RNG, folder=str(tmp_path))


def test_maps_are_paired_by_the_longest_path_that_exists(tmp_path):
    for folder in ("set/part_1", "part_1", ""):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / folder / "x.y.npy", np.zeros(1))
    name = "set/part_1/x.y.JPG"
    for expected in ("set/part_1/x.y.npy", "part_1/x.y.npy", "x.y.npy"):
        assert maps.find_map(tmp_path, name) == tmp_path / expected
        (tmp_path / expected).unlink()
    np.save(tmp_path / "17.npy", np.zeros(1))
    assert maps.find_map(tmp_path, "/../scenes/train/17") == tmp_path / "17.npy", "no suffix, no way out of the folder"


def test_missing_and_bad_maps_name_their_path(tmp_path):
    def depth(name="set/a.jpg"):
        return make_pair("depth", example(name=name), RNG, folder=str(tmp_path))

    with pytest.raises(DataError, match=rf"set/a.jpg: no map at {tmp_path}/set/a{{.png,.npy,.npz}}.*on_bad='skip'"):
        depth()
    np.save(tmp_path / "a.npy", slope()[:, :30])
    with pytest.raises(DataError, match=r"a.npy: the map and the photo differ in shape \(30x40 and 60x40\)"):
        depth()
    np.save(tmp_path / "a.npy", np.zeros((40, 60, 2)))
    with pytest.raises(DataError, match=r"a.npy: holds an array \[40, 60, 2\]; the map must be \[H, W\]"):
        depth()
    np.save(tmp_path / "a.npy", np.array(["x"], object), allow_pickle=True)
    with pytest.raises(DataError, match="a.npy: not a readable map"):
        depth()
    for content in (b"", b"\x93NUMPY", b"no array at all"):
        (tmp_path / "a.npy").write_bytes(content)
        with pytest.raises(DataError, match="a.npy: not a readable map"):
            depth()
    for suffix in (".png", ".npz"):
        (tmp_path / f"b{suffix}").write_bytes(b"PK\x03\x04 broken")
        with pytest.raises(DataError, match=f"b{suffix}: not a readable map"):
            depth("b.jpg")
        (tmp_path / f"b{suffix}").unlink()
    np.savez(tmp_path / "c.npz", a=slope(), b=slope())
    with pytest.raises(DataError, match="c.npz: not a readable map .*holds 2 arrays, must hold one"):
        depth("c")
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(tmp_path / "d.png")
    with pytest.raises(DataError, match=r"d.png: holds an array \[40, 60, 3\]"):
        depth("d")


def test_filling_keeps_what_is_known_and_guesses_between():
    values = np.tile(np.arange(37, dtype=np.float32), (23, 1))
    known = np.ones(values.shape, bool)
    known[5:18, 10:25] = False
    filled = maps.filled(np.where(known, values, np.nan), known)
    np.testing.assert_array_equal(filled[known], values[known])
    assert np.abs(filled - values)[~known].max() < 6 and np.abs(filled - values)[~known].mean() < 2
    one = np.zeros((5, 7), bool)
    one[4, 6] = True
    assert (maps.filled(np.where(one, 3.0, np.nan), one) == 3).all()
    vectors = np.stack([values, -values], 2)
    both = maps.filled(vectors, known)
    np.testing.assert_allclose(both[..., 0], -both[..., 1])
