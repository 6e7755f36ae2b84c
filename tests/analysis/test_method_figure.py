"""The README's picture is drawn by a command."""

import cv2

from lrfr_jax.analysis import method_figure


def test_writes_a_picture_with_both_colors(tmp_path):
    path = tmp_path / "method.png"
    method_figure.main(["--output", str(path), "--identity", "3"])
    image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    assert image.shape[1] > 2 * image.shape[0] > 400
    for color in (method_figure.HR_COLOR, method_figure.LR_COLOR, method_figure.LOSS_COLOR):
        wanted = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
        assert (abs(image.astype(int) - wanted).max(axis=-1) < 3).any()
