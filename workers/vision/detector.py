"""Find faces in a picture: MTCNN's three networks through LiteRT, or YuNet through OpenCV.

`load_detector` gives one of them behind the `FaceDetector` protocol. `MtcnnDetector` is the
default, because its networks ship with Moodline (`models/face_detector/`). Both promise: the same
picture gives the same faces; boxes lie within the picture; memory stays bounded whatever sizes and
pictures come; nothing is kept from one picture to the next. A detector belongs to one thread.

`detect` searches a whole picture, all of it each time; told where faces are expected, it takes a
shorter way to those that it finds again there. `verify` looks only at given places, with a lower
threshold: the tracker's second chance for a face that the full search missed (a turned head, motion
blur).
`follow` looks at given places too, as strictly as `detect` and at a tenth of its cost: for a face
that was there a moment ago. Neither invents a box: what they return, the network saw there.
`search_beside` is for what is new: it leaves out the faces that are known, and the fine search
where nothing has changed.

Not here: who is who (`workers.tracking`), and the crop for the classifier (`workers.vision.crop`).

Method: Zhang, Zhang, Li, Qiao, "Joint Face Detection and Alignment Using Multitask Cascaded
Convolutional Networks", IEEE Signal Processing Letters 2016.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any, Literal, Protocol

import cv2
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from shared.errors import ModelError

ImageBGR = NDArray[np.uint8]
"""A picture (height, width, 3), channels in OpenCV's order."""
Floats = NDArray[np.float32]
Pixels = NDArray[np.int8]
"""What the networks take: 0 to 255 less 128."""
BoxXYWH = tuple[float, float, float, float]

MAYBE = float(np.log(0.6 / 0.4))
"""The logit from which on a window of P-Net's counts as what may be a face."""
# Of O-Net's answers, seen in the mirror: which one each is, and how it is counted from the right.
# Left and right change places: edges, eyes, mouth corners.
_OTHER_SIDE = np.array([2, 1, 0, 3, 5, 4, 6, 8, 7, 10, 9, 11, 13, 12, 14])
_TURNED = np.array([-1, 1, -1, 1, *[-1] * 5, *[1] * 5, 1], np.float32)
_FROM_RIGHT = np.array([0] * 4 + [1] * 5 + [0] * 6, np.float32)
_GREY = (127, 127, 127)  # what lies beyond the picture: nothing, to networks scaled to -1..1
YUNET_SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"


@dataclass(frozen=True, slots=True)
class Detection:
    """One face in one picture.

    `box_xywh` is in pixels of that picture and lies within it. `landmarks_xy` holds the eye, eye,
    nose, mouth corner, mouth corner, the one on the picture's left first; they may lie outside the
    picture where the face does.
    """

    box_xywh: BoxXYWH
    score: float
    landmarks_xy: tuple[tuple[float, float], ...] = ()


class FaceDetector(Protocol):
    """What the pipeline asks of a detector."""

    def detect(self, image_bgr: ImageBGR, expected: Sequence[BoxXYWH] = ()) -> list[Detection]:
        """Return the faces in the picture, the surest first.

        `expected` are places where faces were a moment ago. They save time, and no face is there
        because it was expected.
        """
        ...

    def verify(self, image_bgr: ImageBGR, boxes_xywh: Sequence[BoxXYWH]) -> list[Detection | None]:
        """Return for each place the face that is there, or None."""
        ...

    def follow(self, image_bgr: ImageBGR, boxes_xywh: Sequence[BoxXYWH]) -> list[Detection | None]:
        """Return for each place the face that is surely there, close by and as large, or None."""
        ...

    def search_beside(
        self, image_bgr: ImageBGR, known: Sequence[Detection], area_xywh: BoxXYWH
    ) -> list[Detection]:
        """Return the faces that are none of those known.

        `area_xywh` is where something has changed, as shares of the picture: small faces are
        searched there alone, large ones everywhere.
        """
        ...

    def smaller(self) -> FaceDetector:
        """Return one that searches at half the width: quicker, and it misses small faces.

        It shares the networks, so both belong to one thread.
        """
        ...


class _Network:
    """One LiteRT network with a bounded set of interpreters, one per input shape.

    A resize costs more than a run, so interpreters are kept; the least recently used goes first.
    """

    _BATCHES = (16, 4, 2, 1)

    def __init__(self, model: bytes, *, threads: int, capacity: int) -> None:
        self._model = model
        self._threads = threads
        self._capacity = capacity
        self._interpreters: OrderedDict[tuple[int, ...], tuple[Interpreter, int, int]]
        self._interpreters = OrderedDict()

    def __call__(self, pixels_bgr: Pixels) -> Floats:
        key = pixels_bgr.shape
        if key in self._interpreters:
            self._interpreters.move_to_end(key)
        else:
            if len(self._interpreters) >= self._capacity:
                self._interpreters.popitem(last=False)
            self._interpreters[key] = self._build(key)
        interpreter, input_index, output_index = self._interpreters[key]
        interpreter.set_tensor(input_index, pixels_bgr)
        interpreter.invoke()
        output: Floats = interpreter.get_tensor(output_index)
        return output

    def _build(self, shape: tuple[int, ...]) -> tuple[Interpreter, int, int]:
        interpreter = Interpreter(model_content=self._model, num_threads=self._threads)
        input_index = interpreter.get_input_details()[0]["index"]
        interpreter.resize_tensor_input(input_index, shape)
        interpreter.allocate_tensors()
        return interpreter, input_index, interpreter.get_output_details()[0]["index"]

    def in_batches(self, crops: Pixels) -> Floats:
        """Run any number of crops in the few batch sizes that interpreters are kept for.

        On one core 16 crops cost 16 times one crop, so a sum of sizes (23 = 16 + 4 + 2 + 1) beats
        filling up to the next size.
        """
        if len(crops) in self._BATCHES:
            return self(crops)
        parts = []
        start = 0
        while start < len(crops):
            size = next(size for size in self._BATCHES if size <= len(crops) - start)
            parts.append(self(crops[start : start + size]))
            start += size
        return np.concatenate(parts)


class MtcnnDetector:
    """MTCNN: P-Net proposes in a pyramid, R-Net and O-Net refine, each face with five landmarks.

    Beyond the paper: O-Net sees each face in the mirror too. The lower of both scores counts and
    the mean of both places, which on six clips and 222 pictures without faces left none of the
    false ones and made boxes a third steadier from frame to frame.

    `max_width` is the width in pixels at which faces are searched (a picture is never enlarged;
    upright pictures may be up to twice as high as that); `min_face_px` is the smallest face, in
    pixels of that scaled picture. Both set the cost. Crops for R-Net and O-Net are taken from the
    full picture, which small faces need.
    """

    # Proposals past these counts are dropped, the weakest first, so that no picture (noise, a
    # crowd printed on a wall) can take more than a bounded time.
    _MAX_WINDOWS = 600
    # From one level of the pyramid to the next. The paper's 0.709 finds 1 face in 200 more (seven
    # clips, 308 photographs; of faces of some 30 pixels 1 in 60) and takes a quarter more time.
    _STEP = 0.5
    # Levels as high and wide as this, which would take most of the time, are judged at a quarter of
    # P-Net's windows, 4 pixels apart, and only at those that the rejector leaves. 4 pixels apart
    # lose 1 face in 850 (308 photographs, six clips); from 48 on it would be 5, at all levels 54.
    _REJECTED_FROM = 96
    _WINDOWS_A_RUN = 16
    _MAX_PROPOSALS = 128
    _MAX_FACES = 48

    def __init__(
        self,
        model_dir: Path,
        *,
        max_width: int = 320,
        min_face_px: float = 18.0,
        threshold: float = 0.8,
        verify_threshold: float = 0.6,
        threads: int = 1,
    ) -> None:
        rejector, pnet, rnet, onet = read_networks(model_dir)
        # So many interpreters hold the levels of about six picture sizes at once.
        self._rejector = _Network(rejector, threads=threads, capacity=12)
        self._rejector_of_parts = _Network(rejector, threads=threads, capacity=24)
        self._pnet = _Network(pnet, threads=threads, capacity=24)
        self._pnet_of_parts = _Network(pnet, threads=threads, capacity=24)
        self._pnet_of_windows = _Network(pnet, threads=threads, capacity=1)
        self._rnet = _Network(rnet, threads=threads, capacity=4)
        self._onet = _Network(onet, threads=threads, capacity=4)
        self._max_width = max_width
        self._min_face_px = min_face_px
        self._threshold = threshold
        self._verify_threshold = verify_threshold

    def detect(self, image_bgr: ImageBGR, expected: Sequence[BoxXYWH] = ()) -> list[Detection]:
        mips = _Halvings(image_bgr)
        boxes = self._propose(mips)
        # A face makes a dozen proposals, which R-Net and O-Net boil down to one place. Where it is
        # known that is the place to look at, if there are any.
        places = _corners(expected)
        places = places[_covered(places, boxes)]
        again = self._found_again(mips, places) if len(places) else []
        if not again:
            return self._judged(mips, boxes)
        boxes = boxes[~_covered(boxes, _corners_of(again))]
        faces = again + self._judged(mips, boxes)
        if len(faces) == 1:
            return faces
        scores = np.array([face.score for face in faces], np.float32)
        distinct = _suppress_within(_corners_of(faces), scores)
        return [faces[index] for index in distinct.tolist()]

    def search_beside(
        self, image_bgr: ImageBGR, known: Sequence[Detection], area_xywh: BoxXYWH
    ) -> list[Detection]:
        mips = _Halvings(image_bgr)
        boxes = self._propose(mips, area_xywh)
        if known:
            boxes = boxes[~_covered(boxes, _corners_of(known))]
        return self._judged(mips, boxes)

    def smaller(self) -> MtcnnDetector:
        other = copy.copy(self)
        other._max_width = self._max_width // 2
        return other

    def _found_again(self, mips: _Halvings, places: Floats) -> list[Detection]:
        """Return the faces that are at these places (N, 4)."""
        boxes, scores, points, seen = self._look_at(mips, places)
        faces = map(_detection, boxes[seen], scores[seen], points[seen], repeat(mips.shape))
        return [face for face in faces if face is not None]

    def _judged(self, mips: _Halvings, boxes: Floats) -> list[Detection]:
        """Return the faces among the proposed boxes (N, 4)."""
        if not len(boxes):
            return []
        boxes, scores, _ = self._refine(self._rnet, 24, mips, boxes)
        sure = scores > 0.3  # lower than the paper's 0.7: the mirror, below, makes up for it
        if not sure.any():
            return []
        boxes, scores = boxes[sure], scores[sure]
        boxes = boxes[_suppress(boxes, scores)[: self._MAX_FACES]]
        boxes, scores, points = self._refine(self._onet, 48, mips, boxes)
        sure = scores > self._threshold
        boxes, scores, points = boxes[sure], scores[sure], points[sure]
        keep = _suppress_within(boxes, scores)
        if not len(keep):
            return []
        boxes, scores, points = boxes[keep], scores[keep], points[keep]
        # A face is one in the mirror too; a fold of cloth or the back of a head seldom is.
        half = np.float32(0.5)
        mirror = self._refine(self._onet, 48, mips, boxes, mirrored=True)
        boxes, points = (boxes + mirror[0]) * half, (points + mirror[2]) * half
        scores = np.minimum(scores, mirror[1])
        faces = map(_detection, boxes, scores, points, repeat(mips.shape))
        return [face for face in faces if face is not None and face.score > self._threshold]

    def verify(self, image_bgr: ImageBGR, boxes_xywh: Sequence[BoxXYWH]) -> list[Detection | None]:
        if not boxes_xywh:
            return []
        near = _Near(image_bgr, boxes_xywh)
        # Twice: the first answer centres the second look, in the mirror, whose score then counts.
        boxes, _, _ = self._refine(self._onet, 48, near.mips, near.boxes)
        boxes, scores, points = self._refine(self._onet, 48, near.mips, boxes, mirrored=True)
        seen = _is_near(boxes, near.boxes) & (scores > self._verify_threshold)
        return near.faces(boxes, scores, points, seen)

    def follow(self, image_bgr: ImageBGR, boxes_xywh: Sequence[BoxXYWH]) -> list[Detection | None]:
        if not boxes_xywh:
            return []
        near = _Near(image_bgr, boxes_xywh)
        return near.faces(*self._look_at(near.mips, near.boxes))

    def _look_at(
        self, mips: _Halvings, places: Floats
    ) -> tuple[Floats, Floats, Floats, NDArray[np.bool_]]:
        """Look at each place (N, 4): boxes, scores, points, and whether a face is there.

        As `_judged` ends, so that boxes are the same, but for where the look began.
        """
        boxes, scores, points = self._refine(self._onet, 48, mips, places, both_ways=True)
        growth = _longer_sides(boxes) / _longer_sides(places)
        as_large = (growth > 2 / 3) & (growth < 3 / 2)
        return (
            boxes,
            scores,
            points,
            _is_near(boxes, places) & as_large & (scores > self._threshold),
        )

    def _propose(self, mips: _Halvings, area_xywh: BoxXYWH | None = None) -> Floats:
        """Run P-Net over the pyramid; return boxes (N, 4) as x1, y1, x2, y2, at most 128.

        Of the large levels, that take the time, only what lies in `area_xywh` (shares).
        """
        height, width = mips.shape[:2]
        scale = _search_scale(mips[0], self._max_width) * 12 / self._min_face_px
        cells: list[Floats] = []  # what P-Net says of windows that may hold a face
        windows: list[NDArray[np.intp]] = []  # their rows and columns
        levels: list[tuple[float, ...]] = []
        # The smallest levels get a margin of half a window: for faces that fill the picture, or
        # that its edge cuts.
        while min(height, width) * scale >= 8:
            size_wh = (round(width * scale), round(height * scale))
            # From the halving that is just larger: nothing is skipped, and it costs little.
            mip = mips[int(-np.log2(min(scale, 1.0)))]
            level: Any = cv2.resize(mip, size_wh, interpolation=cv2.INTER_LINEAR)
            margin = 6 if min(size_wh) < 48 else 0
            if margin:
                level = cv2.copyMakeBorder(
                    level, margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=_GREY
                )
            left = top = -margin
            part_xywh = None if margin else area_xywh
            if part_xywh:
                left, top, level = _part(level, part_xywh)
            judged = self._by_window if min(size_wh) >= self._REJECTED_FROM else self._by_level
            answers, at = judged(level, in_part=part_xywh is not None)
            if len(answers):
                cells.append(answers)
                windows.append(at)
                levels.append((left, top, width / size_wh[0], height / size_wh[1]))
            scale *= self._STEP
        if not cells:
            return np.empty((0, 4), np.float32)
        found = np.concatenate(cells)
        rows, columns = np.concatenate(windows, axis=1)
        left, top, wider, higher = np.repeat(levels, list(map(len, cells)), axis=0).T
        x, y = columns + left + 1, rows + top + 1
        edges = np.stack([x, y, x + 12, y + 12]) + found[:, :4].T * 12
        boxes = (edges * (wider, higher, wider, higher)).T.astype(np.float32)
        logits = found[:, 4]
        strongest = np.argsort(-logits, kind="stable")[: self._MAX_WINDOWS]
        boxes, logits = boxes[strongest], logits[strongest]
        kept: Floats = boxes[_suppress(boxes, logits)[: self._MAX_PROPOSALS]]
        return kept

    def _by_level(self, level: ImageBGR, *, in_part: bool) -> tuple[Floats, NDArray[np.intp]]:
        """What P-Net says of those windows of a level that may hold a face, (N, 5).

        And where they are: the rows and columns that they begin at, (2, N).
        """
        grid = (self._pnet_of_parts if in_part else self._pnet)(_signed(level)[None])[0]
        maybe = np.flatnonzero(grid[..., 4] > MAYBE)
        return grid.reshape(-1, 5)[maybe], 2 * np.array(np.divmod(maybe, grid.shape[1]))

    def _by_window(self, level: ImageBGR, *, in_part: bool) -> tuple[Floats, NDArray[np.intp]]:
        """The same, but only of windows 4 pixels apart, and of those that the rejector leaves."""
        height, width = level.shape[:2]
        grey: Any = cv2.cvtColor(level, cv2.COLOR_BGR2GRAY)
        grey = cv2.copyMakeBorder(
            grey, 2, -(height + 2) % 4, 2, -(width + 2) % 4, cv2.BORDER_REPLICATE
        )
        rejector = self._rejector_of_parts if in_part else self._rejector
        left = rejector(in_blocks(grey)[None])[0, : (height - 8) // 4, : (width - 8) // 4, 0]
        at = np.array(np.nonzero(left > 0))
        if at.shape[1] > self._MAX_WINDOWS:
            strongest = np.argsort(-left[*at], kind="stable")[: self._MAX_WINDOWS]
            at = at[:, strongest]
        if not at.size:
            return np.empty((0, 5), np.float32), at
        at *= 4
        count, run = at.shape[1], self._WINDOWS_A_RUN
        # Some twice, to fill up a run: a few windows take less time than one more.
        crops = _windows(_signed(level))[*at[:, np.arange(-count % run + count) % count]]
        runs = [self._pnet_of_windows(crops[i : i + run]) for i in range(0, len(crops), run)]
        answers = np.concatenate(runs)[:count, 0, 0]
        maybe = answers[:, 4] > MAYBE
        return answers[maybe], at[:, maybe]

    @staticmethod
    def _refine(
        network: _Network,
        side: int,
        mips: _Halvings,
        boxes: Floats,
        *,
        mirrored: bool = False,
        both_ways: bool = False,
    ) -> tuple[Floats, Floats, Floats]:
        """Look at each box again; return moved boxes (N, 4), scores (N,), points (N, 5, 2) or none.

        Boxes are made square first; the network's answers are parts of the square's side. With
        `both_ways` the mean of what is seen as it is and mirrored, and the lower score.
        """
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        sides: Floats = np.maximum(_longer_sides(boxes), 1)[:, None]
        corners = centres - sides / 2
        count = len(boxes)
        patches = np.empty((2 * count if both_ways else count, side, side, 3), np.uint8)
        lengths = sides[:, 0].tolist()
        for patch, corner, length in zip(patches[:count], corners, lengths, strict=True):
            _patch(mips, corner, length, side, into=patch)
        if mirrored:
            patches = _mirrored(patches)
        if both_ways:
            patches[count:] = _mirrored(patches[:count])
        answers = network.in_batches(_signed(patches))
        if mirrored:
            answers = _unmirrored(answers)
        if both_ways:
            answers, mirror = answers[:count], _unmirrored(answers[count:])
            lower = np.minimum(answers[:, -1], mirror[:, -1])
            answers = (answers + mirror) * np.float32(0.5)
            answers[:, -1] = lower
        # Offsets move the square's own corners.
        moved = np.concatenate([corners, corners + sides], axis=1) + answers[:, :4] * sides
        # The sigmoid in a form that cannot overflow.
        scores = (0.5 + 0.5 * np.tanh(answers[:, -1] / 2)).astype(np.float32)
        points = answers[:, 4:-1].reshape(len(boxes), 2, -1).transpose(0, 2, 1)
        return moved, scores, corners[:, None] + points * sides[:, None]


class YunetDetector:
    """YuNet through OpenCV's `FaceDetectorYN`, when its ONNX file is configured.

    Of the file only OpenCV Zoo's 2023 release is accepted: others have other outputs. `max_width`
    is the width in pixels at which faces are searched, as for `MtcnnDetector`.
    """

    _REGION_SIDE = 160

    def __init__(
        self,
        onnx_path: Path,
        *,
        max_width: int = 640,
        threshold: float = 0.8,
        verify_threshold: float = 0.5,
    ) -> None:
        remedy = "give the path of OpenCV Zoo's face_detection_yunet_2023mar.onnx, or choose mtcnn"
        if not onnx_path.is_file():
            raise ModelError(f"there is no face detector at {onnx_path}: {remedy}")
        if hashlib.sha256(onnx_path.read_bytes()).hexdigest() != YUNET_SHA256:
            raise ModelError(f"{onnx_path} is damaged or another model: {remedy}")
        # OpenCV 5 warns at each creation that its new engine ignores the (default) target.
        level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
        self._network = cv2.FaceDetectorYN.create(
            str(onnx_path), "", (320, 320), verify_threshold, 0.3, 500
        )
        cv2.utils.logging.setLogLevel(level)
        self._max_width = max_width
        self._threshold = threshold

    def detect(
        self,
        image_bgr: ImageBGR,
        expected: Sequence[BoxXYWH] = (),  # noqa: ARG002 - one pass finds all at the same cost
    ) -> list[Detection]:
        height, width = image_bgr.shape[:2]
        scale = _search_scale(image_bgr, self._max_width)
        # A picture narrower than a few of its strides makes the network fail.
        size_wh = (max(round(width * scale), 32), max(round(height * scale), 32))
        if size_wh != (width, height):
            image_bgr = cv2.resize(image_bgr, size_wh, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
        boxes, scores, points = self._run(image_bgr)
        stretch = np.array([width / size_wh[0], height / size_wh[1]], np.float32)
        keep = scores > self._threshold
        boxes, points = boxes[keep] * np.tile(stretch, 2), points[keep] * stretch
        faces = map(_detection, boxes, scores[keep], points, repeat((height, width)))
        return [face for face in faces if face is not None]

    def verify(self, image_bgr: ImageBGR, boxes_xywh: Sequence[BoxXYWH]) -> list[Detection | None]:
        mips = _Halvings(image_bgr)
        return [self._verify_one(mips, box) for box in boxes_xywh]

    def follow(self, image_bgr: ImageBGR, boxes_xywh: Sequence[BoxXYWH]) -> list[Detection | None]:
        faces = self.verify(image_bgr, boxes_xywh)
        return [face if face and face.score > self._threshold else None for face in faces]

    def search_beside(
        self,
        image_bgr: ImageBGR,
        known: Sequence[Detection],
        area_xywh: BoxXYWH,  # noqa: ARG002 - one pass finds small and large: all is searched
    ) -> list[Detection]:
        faces = self.detect(image_bgr)
        covered = _covered(_corners_of(faces), _corners_of(known))
        return [face for face, is_known in zip(faces, covered, strict=True) if not is_known]

    def smaller(self) -> YunetDetector:
        other = copy.copy(self)
        other._max_width = self._max_width // 2
        return other

    def _verify_one(self, mips: _Halvings, box_xywh: BoxXYWH) -> Detection | None:
        x, y, width, height = box_xywh
        # 2.5 faces wide: room for the face to have moved, and the network likes surroundings.
        length = 2.5 * max(width, height, 1.0)
        corner = np.array([x + width / 2 - length / 2, y + height / 2 - length / 2], np.float32)
        boxes, scores, points = self._run(_patch(mips, corner, length, self._REGION_SIDE))
        if not len(boxes):
            return None
        stretch = length / self._REGION_SIDE
        boxes = boxes * stretch + np.tile(corner, 2)
        # Of several faces in the region the one that lies nearest to the place asked for.
        middle = np.array([x + width / 2, y + height / 2])
        away = np.linalg.norm((boxes[:, :2] + boxes[:, 2:]) / 2 - middle, axis=1)
        nearest = int(np.argmin(away))
        if away[nearest] > max(width, height) / 2:
            return None
        landmarks = points[nearest] * stretch + corner
        return _detection(boxes[nearest], scores[nearest], landmarks, mips.shape)

    def _run(self, image_bgr: ImageBGR) -> tuple[Floats, Floats, Floats]:
        """Return boxes (N, 4) as x1, y1, x2, y2, scores (N,) and points (N, 5, 2)."""
        self._network.setInputSize((image_bgr.shape[1], image_bgr.shape[0]))
        _, rows = self._network.detect(image_bgr)
        faces = np.empty((0, 15), np.float32) if rows is None else np.asarray(rows, np.float32)
        boxes = faces[:, :4].copy()
        boxes[:, 2:] += boxes[:, :2]
        return boxes, faces[:, 14], faces[:, 4:14].reshape(-1, 5, 2)


def load_detector(
    name: Literal["mtcnn", "yunet"],
    *,
    models_dir: Path,
    yunet_path: Path | None = None,
    max_width: int | None = None,
    threads: int = 1,
) -> FaceDetector:
    """Return the detector of that name.

    `models_dir` holds `face_detector/` with MTCNN's networks; `yunet_path` is YuNet's ONNX file.
    `max_width` is the width in pixels at which faces are searched, the detector's own by default.
    Raises ModelError, with the remedy, where a file is missing or damaged.
    """
    width = {} if max_width is None else {"max_width": max_width}
    if name == "mtcnn":
        return MtcnnDetector(models_dir / "face_detector", threads=threads, **width)
    if yunet_path is None:
        raise ModelError(
            "the yunet detector needs the path of OpenCV Zoo's face_detection_yunet_2023mar.onnx:"
            " give it, or choose mtcnn"
        )
    return YunetDetector(yunet_path, **width)


def read_networks(model_dir: Path) -> tuple[bytes, bytes, bytes, bytes]:
    """Return the rejector, P-Net, R-Net and O-Net, checked against the folder's card.

    Raises ModelError where the card or a file is missing or is not what the card says.
    """
    remedy = (
        "restore the folder from the repository, or run `python -m training.convert_mtcnn` and "
        "then `python -m training.rejector`"
    )
    names = ("rejector.tflite", "pnet.tflite", "rnet.tflite", "onet.tflite")
    try:
        digests = json.loads((model_dir / "card.json").read_bytes())["files"]
        expected = [digests[name] for name in names]
        rejector, pnet, rnet, onet = ((model_dir / name).read_bytes() for name in names)
    except OSError as error:
        raise ModelError(
            f"the face detector in {model_dir} is incomplete ({error}): {remedy}"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{model_dir / 'card.json'} is no card of the face detector ({error!r}): {remedy}"
        ) from error
    for name, model, digest in zip(names, (rejector, pnet, rnet, onet), expected, strict=True):
        if hashlib.sha256(model).hexdigest() != digest:
            raise ModelError(f"{model_dir / name} is not the file that its card names: {remedy}")
    return rejector, pnet, rnet, onet


def _search_scale(image_bgr: ImageBGR, max_width: int) -> float:
    """Return the factor, at most 1, to the size of search; tall pictures get twice the height."""
    height, width = image_bgr.shape[:2]
    return float(min(1.0, max_width / width, 2 * max_width / height))


class _Halvings:
    """The picture, its half, its quarter… down to 48 pixels, each made when first asked for."""

    def __init__(self, image_bgr: ImageBGR) -> None:
        self.shape = image_bgr.shape
        self._mips = [image_bgr]

    def __getitem__(self, level: int) -> ImageBGR:
        """The picture halved so often, or as often as it can be."""
        mips = self._mips
        while len(mips) <= level and min(mips[-1].shape[:2]) >= 96:
            height, width = mips[-1].shape[:2]
            half = cv2.resize(mips[-1], (width // 2, height // 2), interpolation=cv2.INTER_AREA)
            mips.append(half)  # type: ignore[arg-type]
        return mips[min(level, len(mips) - 1)]


class _Near:
    """The part of a picture around some places, so that no more than that need be halved."""

    _GRID = 16  # the part begins where halvings of the whole picture have a pixel's corner

    def __init__(self, image_bgr: ImageBGR, boxes_xywh: Sequence[BoxXYWH]) -> None:
        self._shape = image_bgr.shape
        boxes = np.asarray(boxes_xywh, np.float32)
        margin = boxes[:, 2:].max(axis=1, keepdims=True) + 2 * self._GRID
        low = (boxes[:, :2] - margin).min(axis=0)
        high = (boxes[:, :2] + boxes[:, 2:] + margin).max(axis=0)
        left, top = (max(int(edge) // self._GRID * self._GRID, 0) for edge in low)
        right, bottom = (max(int(edge), 0) for edge in high)
        part = image_bgr[top:bottom, left:right]
        if not part.size:  # nothing but places beyond the picture
            left, top, part = 0, 0, image_bgr
        self._corner = np.array([left, top] * 2, np.float32)
        self.mips = _Halvings(part)
        boxes[:, 2:] += boxes[:, :2]
        self.boxes: Floats = boxes - self._corner  # (N, 4) as x1, y1, x2, y2 in that part

    def faces(
        self, boxes: Floats, scores: Floats, points: Floats, seen: NDArray[np.bool_]
    ) -> list[Detection | None]:
        """Those that were seen, in pixels of the picture."""
        faces = map(
            _detection,
            boxes + self._corner,
            scores,
            points + self._corner[:2],
            repeat(self._shape),
        )
        return [face if yes else None for face, yes in zip(faces, seen, strict=True)]


def _part(level: ImageBGR, area_xywh: BoxXYWH) -> tuple[int, int, ImageBGR]:
    """Return left, top and picture of the area with a window's margin; few sizes for few areas."""
    corner_and_size = []
    for start, share, side in zip(area_xywh[:2], area_xywh[2:], level.shape[1::-1], strict=True):
        size = min(round(share * side) + 24, side)
        corner_and_size.append((min(max(round(start * side) - 12, 0), side - size), size))
    (left, width), (top, height) = corner_and_size
    return left, top, level[top : top + height, left : left + width]


def in_blocks(grey: NDArray[np.uint8]) -> Pixels:
    """Return a grey picture (H, W) as the rejector takes it: (H / 4, W / 4, 16), less 128.

    A block's pixels lie in the order of its rows. Convolutions of 8 x 8 pixels, 4 apart, become
    ones of 2 x 2 blocks, which take half the time.
    """
    height, width = grey.shape
    fours = grey.view(np.uint32).reshape(height // 4, 4, width // 4)  # four pixels at a time
    blocks = np.ascontiguousarray(fours.transpose(0, 2, 1))
    return _signed(blocks.view(np.uint8))


def _windows(level: Pixels) -> Pixels:
    """All windows of P-Net's in a level (H, W, 3), by row and column: (H - 11, W - 11, 12, 12, 3).

    As NumPy's `sliding_window_view` gives them, in a tenth of the time.
    """
    height, width, channels = level.shape
    shape = (height - 11, width - 11, 12, 12, channels)
    return np.ndarray(shape, level.dtype, level, strides=(*level.strides[:2], *level.strides))


def _signed(pixels: NDArray[np.uint8]) -> Pixels:
    return np.bitwise_xor(pixels, np.uint8(128)).view(np.int8)


def _patch(
    mips: _Halvings, corner_xy: Floats, length: float, side: int, into: ImageBGR | None = None
) -> Any:
    """Return the square at `corner_xy` scaled to `side`; grey where it leaves the picture."""
    mip = mips[max(int(np.log2(length / side)), 0)]
    shrink_x = mip.shape[1] / mips.shape[1]
    shrink_y = mip.shape[0] / mips.shape[0]
    step_x, step_y = length / side * shrink_x, length / side * shrink_y
    # Pixel centres: output i lies at (i + 0.5) * step - 0.5 of the source.
    source_from_patch = np.array(
        [
            [step_x, 0, corner_xy[0] * shrink_x + 0.5 * step_x - 0.5],
            [0, step_y, corner_xy[1] * shrink_y + 0.5 * step_y - 0.5],
        ]
    )
    return cv2.warpAffine(
        mip,
        source_from_patch,
        (side, side),
        dst=into,
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=_GREY,
    )


def _mirrored(crops: ImageBGR) -> ImageBGR:
    """Crops (N, H, W, 3) from right to left; as one high picture, which is quicker than NumPy."""
    one = cv2.flip(crops.reshape(-1, *crops.shape[2:]), 1)
    return np.asarray(one, np.uint8).reshape(crops.shape)


def _unmirrored(answers: Floats) -> Floats:
    """Turn O-Net's answers for mirrored crops into those for the crops as they were."""
    return answers[:, _OTHER_SIDE] * _TURNED + _FROM_RIGHT


def _suppress(boxes: Floats, scores: Floats) -> NDArray[np.intp]:
    """Return the indices of boxes of which no surer kept one shares half, the surest first.

    Half of what both cover together. Scores are positive.
    """
    corner_and_size = boxes.astype(np.float64)
    corner_and_size[:, 2:] -= corner_and_size[:, :2]
    kept = cv2.dnn.NMSBoxes(corner_and_size, scores, 0.0, 0.5)  # type: ignore[arg-type]
    return np.asarray(kept, np.intp).reshape(-1)


def _suppress_within(boxes: Floats, scores: Floats) -> NDArray[np.intp]:
    """Return the indices of boxes that no surer kept one covers or holds, the surest first.

    The smaller of the two is covered where more than 0.7 of it is shared.
    """
    kept: list[int] = []
    for index in np.argsort(-scores, kind="stable").tolist():
        low = np.maximum(boxes[kept, :2], boxes[index, :2])
        high = np.minimum(boxes[kept, 2:], boxes[index, 2:])
        areas = (boxes[[*kept, index], 2:] - boxes[[*kept, index], :2]).prod(axis=1)
        shared_area = np.maximum(high - low, 0).prod(axis=1)
        if not (shared_area > 0.7 * np.minimum(areas[:-1], areas[-1])).any():
            kept.append(index)
    return np.array(kept, np.intp)


def _corners(boxes_xywh: Sequence[BoxXYWH]) -> Floats:
    """The boxes as x1, y1, x2, y2 (N, 4)."""
    boxes = np.array(boxes_xywh, np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def _corners_of(faces: Sequence[Detection]) -> Floats:
    return _corners([face.box_xywh for face in faces])


def _covered(boxes: Floats, known: Floats) -> NDArray[np.bool_]:
    """Whether half of each box (x1, y1, x2, y2), or half of a known one, is shared with it."""
    left, top, right, bottom = boxes.T[:, :, None]
    known_left, known_top, known_right, known_bottom = known.T[:, None]
    across = np.minimum(right, known_right) - np.maximum(left, known_left)
    down = np.minimum(bottom, known_bottom) - np.maximum(top, known_top)
    shared_area = np.maximum(across, 0) * np.maximum(down, 0)
    areas = (right - left) * (bottom - top)
    known_areas = (known_right - known_left) * (known_bottom - known_top)
    return np.asarray((shared_area > 0.5 * np.minimum(areas, known_areas)).any(axis=1))


def _is_near(boxes: Floats, asked: Floats) -> NDArray[np.bool_]:
    """Whether each box has its middle within the one that was asked for (both x1, y1, x2, y2)."""
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    within = (middles > asked[:, :2]) & (middles < asked[:, 2:])
    return np.asarray(within[:, 0] & within[:, 1])


def _longer_sides(boxes: Floats) -> Floats:
    sides = boxes[:, 2:] - boxes[:, :2]
    return np.asarray(np.maximum(sides[:, 0], sides[:, 1]))


def _detection(
    box: Floats, score: np.float32, points: Floats, shape: tuple[int, ...]
) -> Detection | None:
    """Return the face with its box clipped to the picture; None where nothing of it remains."""
    left, top, right, bottom = box.tolist()
    left, right = max(left, 0.0), min(right, float(shape[1]))
    top, bottom = max(top, 0.0), min(bottom, float(shape[0]))
    if right - left < 1 or bottom - top < 1:
        return None
    landmarks = tuple((x, y) for x, y in points.tolist())
    return Detection((left, top, right - left, bottom - top), float(score), landmarks)
