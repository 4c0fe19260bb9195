"""Labelled faces come out of every source alike, clean between splits, or with a clear error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from shared.errors import DataError
from tests.conftest import MATERIAL
from tests.training.builders import LABELS, class_folder, face, face_set, ferplus_npz
from tests.workers.conftest import MODELS
from training.data import (
    FERPLUS_LABELS,
    PUBLIC,
    TRAINING,
    clean_split,
    detector_crop,
    duplicate_groups,
    load_faces,
    trust_own_disgust,
    votes_to_targets,
)
from workers.vision.detector import ImageBGR

FERPLUS_ARCHIVE = MATERIAL / "data" / "ferplus-trainval.npz"


class TestTheMajorityProtocol:
    @pytest.mark.parametrize(
        ("votes", "label"),
        [
            ([10, 0, 0, 0, 0, 0, 0, 0, 0, 0], "neutral"),
            ([0, 6, 4, 0, 0, 0, 0, 0, 0, 0], "happy"),
            ([0, 5, 5, 0, 0, 0, 0, 0, 0, 0], None),  # half is no majority
            ([0, 5, 4, 0, 0, 0, 0, 0, 0, 0], "happy"),
            ([0, 5, 1, 1, 1, 1, 1, 0, 0, 0], "happy"),  # single votes do not count
            ([1, 1, 1, 1, 1, 1, 1, 1, 1, 1], None),
            ([0, 4, 0, 0, 0, 0, 0, 0, 6, 0], None),  # unknown
            ([0, 4, 0, 0, 0, 0, 0, 0, 0, 6], None),  # no face
            ([0, 0, 0, 0, 0, 0, 0, 9, 0, 0], "contempt"),
            ([4, 3, 3, 0, 0, 0, 0, 0, 0, 0], None),
            ([4, 0, 0, 0, 0, 0, 0, 0, 4, 0], None),  # a tie
        ],
    )
    def test_counts_a_picture_by_more_than_half_of_the_votes_that_remain(
        self, votes: list[int], label: str | None
    ) -> None:
        _, truth = votes_to_targets(np.array([votes]))
        assert truth[0] == (-1 if label is None else FERPLUS_LABELS.index(label))

    def test_trains_on_the_shares_of_votes_for_expressions(self) -> None:
        targets, _ = votes_to_targets(
            np.array([[0, 6, 3, 1, 0, 0, 0, 0, 0, 0], [0, 5, 3, 0, 0, 0, 0, 0, 2, 0]])
        )
        assert np.allclose(targets[0], [0, 6 / 9, 3 / 9, 0, 0, 0, 0, 0])
        assert np.allclose(targets[1], [0, 5 / 8, 3 / 8, 0, 0, 0, 0, 0])

    def test_has_no_target_where_most_saw_no_expression(self) -> None:
        targets, _ = votes_to_targets(np.array([[2, 0, 0, 0, 0, 0, 0, 0, 8, 0]]))
        assert not targets.any()

    def test_counts_as_many_pictures_of_the_public_split_as_published_votes_give(self) -> None:
        if not FERPLUS_ARCHIVE.is_file():
            pytest.skip(f"no FER+ data at {FERPLUS_ARCHIVE}")
        faces = load_faces(FERPLUS_ARCHIVE)
        counts = np.bincount(faces.measured("public").truth, minlength=8)
        assert counts.tolist() == [1174, 857, 396, 347, 284, 24, 62, 13]


class TestOwnDisgust:
    def test_counts_in_what_is_trained_on_and_nowhere_else(self, tmp_path: Path) -> None:
        with np.load(ferplus_npz(tmp_path / "a.npz", 60)) as columns:
            said = {**columns}
        said["label"][:30] = 1  # FER2013's disgust, whatever the voters say
        np.savez(tmp_path / "b.npz", **said)
        faces = load_faces(tmp_path / "b.npz")
        votes_only = clean_split(faces, calibration_share=0.3, seed=1)
        both = trust_own_disgust(votes_only, 0.4)
        own = np.asarray(votes_only.training.own) == 1
        k = FERPLUS_LABELS.index("disgust")
        assert 0 < own.sum() < len(own)
        assert np.allclose(both.training.targets[own, k], 0.4)
        assert np.allclose(both.training.targets.sum(axis=1), 1)
        assert np.array_equal(both.training.targets[~own], votes_only.training.targets[~own])
        assert np.array_equal(both.training.pixels, votes_only.training.pixels)
        assert np.array_equal(both.training.truth, votes_only.training.truth)
        assert both.calibration is votes_only.calibration
        assert both.own_disgust == 0.4

    def test_is_refused_where_there_are_no_own_labels(self, tmp_path: Path) -> None:
        split = clean_split(face_set(30), calibration_share=0.2, seed=1)
        with pytest.raises(DataError, match=r"FER\+ votes"):
            trust_own_disgust(split, 0.4)


class TestReading:
    def test_an_archive_gives_pixels_targets_and_splits(self, tmp_path: Path) -> None:
        faces = load_faces(ferplus_npz(tmp_path / "a.npz"))
        assert faces.labels == FERPLUS_LABELS
        assert len(faces.measured("public")) == len(faces.measured("private")) == 3
        assert len(faces.measured("all")) == 30

    def test_a_csv_gives_the_same_as_the_archive_of_its_pictures(self, tmp_path: Path) -> None:
        archive = ferplus_npz(tmp_path / "a.npz")
        with np.load(archive) as columns:
            names = ["Training", "PublicTest", "PrivateTest"]
            lines = ["emotion,pixels,Usage"] + [
                f"{label},{' '.join(map(str, picture.ravel()))},{names[usage]}"
                for label, picture, usage in zip(
                    columns["label"], columns["pixels"], columns["usage"], strict=True
                )
            ]
            head = (
                "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,"
                "contempt,unknown,NF"
            )
            votes = [head] + [f"x,y,{','.join(map(str, row))}" for row in columns["votes"]]
        (tmp_path / "fer2013.csv").write_text("\n".join(lines))
        (tmp_path / "fer2013new.csv").write_text("\n".join(votes))
        for scheme in ("ferplus", "fer2013"):
            ours = load_faces(
                tmp_path / "fer2013.csv",
                scheme,
                votes_csv=tmp_path / "fer2013new.csv",
            )
            theirs = load_faces(archive, scheme)
            assert ours.labels == theirs.labels
            for name in ("pixels", "targets", "truth", "usage"):
                assert np.array_equal(getattr(ours, name), getattr(theirs, name))

    def test_a_folder_gives_its_own_classes_and_measures_by_a_fifth(self, tmp_path: Path) -> None:
        faces = load_faces(class_folder(tmp_path / "mine", each=10))
        assert faces.labels == tuple(sorted(LABELS))
        assert faces.pixels.shape == (30, 96, 96)
        assert np.bincount(faces.truth[faces.usage == PUBLIC]).tolist() == [2, 2, 2]

    def test_a_folders_pictures_are_cropped_as_serving_crops(
        self, tmp_path: Path, portrait: ImageBGR
    ) -> None:
        for label in ("left", "right"):
            (tmp_path / label).mkdir()
            for i in range(5):
                picture = np.roll(portrait, 9 * i * (1 if label == "left" else -1), axis=1)
                cv2.imwrite(str(tmp_path / label / f"{i}.jpg"), picture)
            cv2.imwrite(str(tmp_path / label / "none.png"), np.full((200, 300, 3), 99, np.uint8))
        faces = load_faces(tmp_path, crop=detector_crop(MODELS, 96))
        assert len(faces) == 10  # the pictures without a face do not count
        flat = faces.pixels.reshape(10, -1).astype(float)
        assert np.corrcoef(flat).min() > 0.9  # the same face, wherever it was

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"pixels": np.zeros((30, 48), np.uint8)}, "uint8"),
            ({"pixels": np.zeros((30, 48, 48))}, "float64"),
            ({"label": np.zeros(29, np.int8)}, "one value for each of 30"),
            ({"votes": np.zeros((30, 8), np.int8)}, r"\(30, 10\)"),
            ({"usage": None}, "lacks usage"),
        ],
    )
    def test_an_archive_of_another_shape_is_named(
        self, tmp_path: Path, change: dict[str, object], said: str
    ) -> None:
        with np.load(ferplus_npz(tmp_path / "good.npz")) as good:
            columns = {k: v for k, v in {**good, **change}.items() if v is not None}
        np.savez(tmp_path / "bad.npz", **columns)
        with pytest.raises(DataError, match=rf"bad\.npz.*{said}"):
            load_faces(tmp_path / "bad.npz")

    @pytest.mark.parametrize(
        ("prepare", "said"),
        [
            (lambda p: p.with_suffix(".txt").write_text("x"), "There is no"),
            (lambda p: p.write_bytes(b"PK but no archive"), "cannot be read"),
            (lambda p: p.mkdir(), "two or more subfolders"),
            (lambda p: class_folder(p, each=2), "2 usable of 2"),
            (
                lambda p: (class_folder(p) / LABELS[0] / "broken.jpg").write_bytes(b"no picture"),
                r"broken\.jpg cannot be read",
            ),
        ],
    )
    def test_what_cannot_be_read_is_named(
        self, tmp_path: Path, prepare: Callable[[Path], object], said: str
    ) -> None:
        prepare(tmp_path / "data.npz")
        with pytest.raises(DataError, match=said):
            load_faces(tmp_path / "data.npz")

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("a,b\n1,2", "the columns must be"),
            ("emotion,pixels,Usage\n", "holds no picture"),
            ("emotion,pixels,Usage\n0,1 2 3,Training", "line 2"),
            (f"emotion,pixels,Usage\n0,{'0 ' * 2304},Test", "line 2"),
            (f"emotion,pixels,Usage\n0,{'300 ' * 2304},Training", "line 2"),
        ],
    )
    def test_a_csv_that_is_another_is_named(self, tmp_path: Path, text: str, said: str) -> None:
        (tmp_path / "fer2013.csv").write_text(text)
        with pytest.raises(DataError, match=rf"fer2013\.csv.*{said}"):
            load_faces(tmp_path / "fer2013.csv", "fer2013")

    def test_votes_are_asked_for_where_they_are_missing(self, tmp_path: Path) -> None:
        (tmp_path / "fer2013.csv").write_text(f"emotion,pixels,Usage\n0,{'9 ' * 2304},Training\n")
        with pytest.raises(DataError, match="--votes"):
            load_faces(tmp_path / "fer2013.csv")


class TestDuplicates:
    def test_look_alikes_form_a_group_and_others_do_not(self) -> None:
        rng = np.random.default_rng(3)
        one, other = face(0, rng), face(0, rng)
        darker = (one * 0.7 + 10).astype(np.uint8)
        softer = np.asarray(cv2.GaussianBlur(one, (0, 0), 1), np.uint8)
        groups = duplicate_groups(np.stack([one, other, darker, softer, one[:, ::-1], one]))
        assert groups[1] not in groups[[0, 2, 3, 4, 5]]
        assert len(set(groups[[0, 2, 3, 4, 5]])) == 1

    def test_leave_training_and_never_the_split_that_measures(self) -> None:
        faces = face_set(60, public=15)
        faces.pixels[0] = faces.pixels[-1]  # exact
        faces.pixels[1] = faces.pixels[-2][:, ::-1]  # mirrored
        faces.pixels[2] = (faces.pixels[-3] * 0.8).astype(np.uint8)  # darker
        split = clean_split(faces, calibration_share=0.2, seed=0)
        assert (split.duplicates_exact, split.duplicates_near) == (1, 2)
        assert len(split.training) + len(split.calibration) == 57
        assert len(faces.measured("public")) == 15
        kept = {p.tobytes() for s in (split.training, split.calibration) for p in s.pixels}
        assert not kept & {faces.pixels[i].tobytes() for i in (0, 1, 2)}

    def test_never_stand_on_both_sides_of_training_and_calibration(self) -> None:
        faces = face_set(60, public=6)
        faces.pixels[30:60] = faces.pixels[:30]
        split = clean_split(faces, calibration_share=0.3, seed=0)
        training = {p.tobytes() for p in split.training.pixels}
        aside = {p.tobytes() for p in split.calibration.pixels}
        assert aside
        assert not training & aside

    def test_the_calibration_part_holds_its_share_of_every_class(self) -> None:
        split = clean_split(face_set(90), calibration_share=0.2, seed=5)
        assert np.bincount(split.calibration.truth).tolist() == [6, 6, 6]
        again = clean_split(face_set(90), calibration_share=0.2, seed=5)
        assert np.array_equal(split.calibration.pixels, again.calibration.pixels)

    def test_pictures_without_a_target_are_left_out_and_counted(self) -> None:
        faces = face_set(30)
        faces.targets[:4] = 0
        assert clean_split(faces, calibration_share=0.1, seed=0).without_target == 4
        faces.targets[faces.usage == TRAINING] = 0
        with pytest.raises(DataError, match="Nothing is left"):
            clean_split(faces, calibration_share=0.1, seed=0)
