"""Proxies of the photo alone: what is shown is spoilt as it should be, at every strength, and lies on the same pixels."""

import numpy as np
import pytest
from scipy import ndimage
from skimage import data

from sgt_jax.data.examples import Example
from sgt_jax.data.pictures import corruptions, resizing
from sgt_jax.data.proxies import make_pair
from sgt_jax.errors import DataError


@pytest.fixture(scope="module")
def photo():
    return resizing.resize(data.cat(), (241, 163))  # neither side divides by anything useful


def pairs(name, photo, n=12, **options):
    return [make_pair(name, Example("cat", photo), np.random.default_rng(s), **options) for s in range(n)]


def difference(pair):
    return pair.condition.astype(float) - pair.target


def shift_of(a, b):
    """Where the cross-correlation of two grey pictures peaks, in pixels (dy, dx), within 8."""
    a, b = (x.astype(float).mean(-1) - x.mean() for x in (a, b))
    peak = np.fft.ifft2(np.fft.fft2(a) * np.conj(np.fft.fft2(b))).real
    window = np.roll(peak, (8, 8), (0, 1))[:17, :17]
    return tuple(int(v) - 8 for v in np.unravel_index(window.argmax(), window.shape))


def fine_shift(a, b, sigma):
    """How far `a` lies from `b`, in fractions of a pixel, by least squares on gradients."""
    a, b = (ndimage.gaussian_filter(x.astype(float).mean(-1), sigma) for x in (a, b))
    return [-(a - b).ravel() @ g.ravel() / (g.ravel() @ g.ravel()) for g in np.gradient(b)]


def test_rain_falls_at_every_strength_and_more_of_it(photo):
    wet = []
    for strength in (0.4, 0.6, 0.8):
        made = pairs("deraining", photo, strengths=(strength,))
        for pair in made:
            np.testing.assert_array_equal(pair.target, photo)
            # Where no drop fell the photo is darkened to 0.8; rain is what lies above that.
            rain = pair.condition - 0.8 * pair.target.astype(float)
            assert (rain > -1).all() and rain.max() > 60 and 0.003 < (rain > 30).mean() < 0.4
        wet.append(np.mean([(p.condition - 0.8 * p.target.astype(float) > 30).mean() for p in made]))
    assert wet[0] * 1.2 < wet[1] and wet[1] * 1.15 < wet[2]  # shares go as strength times length: 2.0 and 1.6-fold


def test_rain_streaks_lean_to_the_right():
    streak = corruptions.line_kernel(20, corruptions.RAIN_ANGLE)
    y, x = np.nonzero(streak > 0.5)
    slope = np.polyfit(x, -y, 1)[0]  # y upwards
    assert 1.2 < slope < 2.4  # tan(60) is 1.7
    assert streak.max() <= 1 and 18 < streak.sum() < 22


def test_rain_and_fog_on_tiny_and_large_pictures():
    for size in (8, 33, 700):
        clean = np.full((size, size + 5, 3), 100, np.uint8)
        for strength in (0.4, 0.8):
            for seed in range(10 if size < 100 else 1):
                rain = corruptions.rainy(clean, np.random.default_rng(seed), strength)
                assert rain.shape == clean.shape and rain.max() > 120 and rain.min() == 80
            assert corruptions.foggy(clean, np.random.default_rng(0), strength).mean() > 120


def test_fog_follows_the_law_and_hides_more_of_what_is_above(photo):
    black, white = np.zeros((200, 60, 3), np.uint8), np.full((200, 60, 3), 255, np.uint8)
    for strength in (0.4, 0.6, 0.8):
        air, through = (corruptions.foggy(x, np.random.default_rng(1), strength) / 255 for x in (black, white))
        t = through - air  # J t + A (1 - t) at J = 1 and J = 0
        np.testing.assert_allclose(air, 0.95 * (1 - t), atol=0.01)
        rows = t.mean((1, 2))
        # exp(-(0.5 + 3 s) d) with d = 0.8 above and 0.2 below, give or take the swathes
        np.testing.assert_allclose(rows[[0, -1]], np.exp(-(0.5 + 3 * strength) * np.array([0.8, 0.2])), rtol=0.35)
        assert (np.diff(rows[::20]) > 0).all()
    for pair in pairs("defogging", photo):
        np.testing.assert_array_equal(pair.target, photo)
        assert difference(pair)[:40].mean() > 20


def test_super_resolution_pairs_lie_on_the_same_pixels(photo):
    for factor in (2, 4, 6, 8):
        (pair,) = pairs("super_resolution", photo, 1, factors=(factor,))
        height, width = pair.target.shape[:2]
        assert height % factor == width % factor == 0 and height > 163 - factor and width > 241 - factor
        assert pair.condition.shape == pair.target.shape and shift_of(pair.condition, pair.target) == (0, 0)
        assert max(map(abs, fine_shift(pair.condition, pair.target, factor))) < 0.1
        assert np.abs(difference(pair)).max() > 10
    drawn = {p.target.shape for p in pairs("super_resolution", photo, 30)}
    assert drawn == {(162, 240, 3), (160, 240, 3)}  # of factors 2 and 6, 4 and 8
    (small,) = pairs("super_resolution", photo[:9, :9], 1)
    assert small.target.shape[0] in (8, 9 - 9 % 4)
    with pytest.raises(DataError, match="needs a picture of at least 4 pixels a side"):
        pairs("super_resolution", photo[:3, :3], 1)


def test_reference_s_shift_would_be_noticed(photo):
    """It crops one picture of a super-resolution pair and stretches it back: up to seven pixels off."""
    assert shift_of(np.roll(photo, (1, 3), (0, 1)), photo) == (1, 3)
    cut = resizing.resize(photo[:160, :240], (241, 163))
    assert max(map(abs, fine_shift(cut, photo, 4))) > 0.2


def test_noise_never_wraps_and_is_never_absent(photo):
    bright = 200 + photo // 5
    for seed in range(60):
        pair = make_pair("denoising", Example("a", bright), np.random.default_rng(seed))
        np.testing.assert_array_equal(pair.target, bright)
        assert (pair.condition != pair.target).any()
        # A fifth or more of the values is above white before it is clipped. Wrapped around, they would be dark; of true
        # ones only pepper (at most 2.5 %) and the deepest photon noise are.
        assert (pair.condition < 60).mean() < 0.08
    spread = [difference(pair).std() for pair in pairs("denoising", photo, 40)]
    assert min(spread) > 1 and max(spread) > 40


def test_noise_strengths_follow_their_options():
    grey = np.full((128, 128, 3), 128, np.uint8)
    quiet = dict(quality=(95, 95), photons=(1e5, 1e5), salt=(0, 0))
    made = pairs("denoising", grey, 20, sigma=(20, 20), **quiet)
    spreads = np.array([difference(p).std() for p in made])
    # Gaussian with probability 0.8; JPEG may take some of its colour away, or come alone and change nothing.
    assert (np.abs(spreads - 20) < 0.5).mean() >= 0.5 and (spreads < 20.5).all()


def test_motion_blur_smears_along_one_line():
    point = np.zeros((480, 480, 3), np.uint8)
    point[240, 240] = 255
    for length, angle in ((10, 0), (20, 90), (30, 45)):
        blurred = corruptions.motion_blurred(point, length, angle).astype(float).mean(-1)
        y, x = np.nonzero(blurred > blurred.max() / 2)
        reach = np.hypot(np.ptp(y), np.ptp(x)) + 1
        assert abs(reach - length) < 3, (length, reach)
        if angle != 45:
            assert (np.ptp(y) if angle == 0 else np.ptp(x)) <= 1
        else:
            assert np.corrcoef(x, -y)[0, 1] > 0.9
    flat = np.full((50, 50, 3), 77, np.uint8)
    np.testing.assert_array_equal(corruptions.motion_blurred(flat, 30, 20), flat)


def test_blur_does_not_move_the_photo(photo):
    for pair in pairs("deblurring", photo):
        np.testing.assert_array_equal(pair.target, photo)
        assert shift_of(pair.condition, photo) == (0, 0)
        assert (
            np.abs(np.diff(pair.condition.astype(float), axis=1)).mean()
            < np.abs(np.diff(photo.astype(float), axis=1)).mean()
        )


def test_low_light_is_darker_by_its_factor(photo):
    for pair in pairs("low_light", photo):
        np.testing.assert_array_equal(pair.target, photo)
        slope = np.polyfit(photo.ravel().astype(float), pair.condition.ravel().astype(float), 1)[0]
        assert 0.08 < slope < 0.52
    (pair,) = pairs("low_light", photo, 1, brightness=(0.5, 0.5), sigma=(0, 0))
    np.testing.assert_allclose(pair.condition, photo * 0.5, atol=0.51)


def test_colours_are_taken_from_the_shown_photo_only(photo):
    (pair,) = pairs("colourisation", photo, 1)
    np.testing.assert_array_equal(pair.target, photo)
    assert (np.ptp(pair.condition, axis=2) == 0).all()
    np.testing.assert_allclose(pair.condition[..., 0], photo @ (0.299, 0.587, 0.114), atol=1)
    with pytest.raises(DataError, match="cat: proxy 'colourisation' needs a picture in colour"):
        pairs("colourisation", pair.condition, 1)
    speck = pair.condition.copy()
    speck[:40, :40] = (200, 30, 30)  # 4 % of it
    pairs("colourisation", speck, 1)


def test_holes_hide_parts_and_leave_the_rest(photo):
    covered = []
    for pair in pairs("inpainting", photo, 40):
        np.testing.assert_array_equal(pair.target, photo)
        hidden = (pair.condition != photo).any(-1)
        fills = np.unique(pair.condition[hidden].reshape(-1, 3), axis=0)
        assert fills.tolist() in ([[0, 0, 0]], [[255, 255, 255]])
        covered.append(hidden.mean())
    assert 0.002 < min(covered) and max(covered) < 0.97 and np.ptp(covered) > 0.3
    shares = [np.mean([corruptions.holes((120, 160), np.random.default_rng(s), i).mean() for s in range(60)])
              for i in (0.3, 0.5, 0.8)]  # fmt: skip
    assert shares[0] < shares[1] < shares[2]


def test_mae_hides_exactly_its_share_of_a_grid():
    white = np.full((140, 210, 3), 255, np.uint8)
    (pair,) = pairs("mae", white, 1)
    cells = (pair.condition == 127).all(-1).reshape(14, 10, 21, 10)
    assert (cells.all((1, 3)) == cells.any((1, 3))).all(), "whole cells"
    assert cells.all((1, 3)).sum() == round(0.75 * 14 * 21)
    np.testing.assert_array_equal(pair.target, white)
    with pytest.raises(DataError, match="ratio=1.0 must lie between 0 and 1"):
        pairs("mae", white, 1, ratio=1.0)


def tiles(picture, grid, height, width):
    corners = [(y * height, x * width) for y in range(grid) for x in range(grid)]
    return [picture[y : y + height, x : x + width].tobytes() for y, x in corners]


@pytest.mark.parametrize("grid", [2, 3, 5])
def test_jigsaw_tiles_are_the_target_s_tiles_in_another_order(photo, grid):
    for pair in pairs("jigsaw", photo, 8, grid=grid):
        height, width = (side // grid for side in pair.target.shape[:2])
        top, left = (side % grid // 2 for side in photo.shape[:2])
        np.testing.assert_array_equal(pair.target, photo[top : top + height * grid, left : left + width * grid])

        shown, wanted = (tiles(p, grid, height, width) for p in (pair.condition, pair.target))
        assert sorted(shown) == sorted(wanted) and shown != wanted
        # Undoing the permutation restores the photo.
        restored = np.zeros_like(pair.target)
        for n, tile in enumerate(wanted):
            i = shown.index(tile)
            source = pair.condition[i // grid * height :, i % grid * width :][:height, :width]
            restored[n // grid * height :, n % grid * width :][:height, :width] = source
        np.testing.assert_array_equal(restored, pair.target)


def test_jigsaw_of_too_small_a_picture(photo):
    with pytest.raises(DataError, match="cat: proxy 'jigsaw' cannot cut .* into 9 x 9 tiles"):
        pairs("jigsaw", photo[:8, :20], 1, grid=9)


def test_edges_of_a_step_are_bright_lines_on_black():
    step = np.zeros((32, 32, 3), np.uint8)
    step[:, 16:, 1] = 255  # in one channel only
    (pair,) = pairs("edges", step, 1, gain=1.0)
    assert pair.target[:, 15:17].min() > 100 and not pair.target[:, :12].any() and not pair.target[:, 20:].any()
    assert (pair.target == pair.target[:, :, :1]).all()


def test_canny_draws_one_thin_line_along_a_step_and_none_along_a_faint_one():
    step = np.zeros((200, 300, 3), np.uint8)
    step[:, 150], step[:, 151:] = 128, 255
    (pair,) = pairs("canny", step, 1)
    assert set(np.unique(pair.target)) == {0, 255}
    assert (pair.target[5:-5].any(-1).sum(1) == 1).all() and (pair.target[5:-5, 150] == 255).all()
    (wide,) = pairs("canny", step, 1, width=0.01)
    assert (wide.target[9:-9].any(-1).sum(1) == 4).all()
    (faint,) = pairs("canny", step // 16, 1)
    assert not faint.target.any()


def test_line_kernels_and_rounding():
    line = np.zeros((5, 5))
    line[2, 1:4] = 1
    np.testing.assert_allclose(corruptions.line_kernel(3, 0), line, atol=1e-6)
    np.testing.assert_allclose(corruptions.line_kernel(3, 90), line.T, atol=1e-6)
    np.testing.assert_array_equal(corruptions.to_picture(np.array([-1, 0.002, 0.5, 2.0])), [0, 1, 128, 255])
    with pytest.raises(ValueError, match="not divisible by 4"):
        corruptions.coarse(np.zeros((8, 9, 3), np.uint8), 4)
