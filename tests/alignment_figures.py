"""Measures `prepare align`: the detector against given landmarks, and the warp against given aligned faces.

python tests/alignment_figures.py --photos lfw_raw.tar --landmarks landmarks.csv.gz --aligned lfw112.tar --faces centre
"""

import argparse
import time

import numpy as np

from lrfr_jax.data import records
from lrfr_jax.pictures import photos, sources, warp
from lrfr_jax.pictures.landmarks import CHOICES, choose_face, read_landmarks


def detector_errors(source, landmarks, detect, *, faces):
    """Returns mean landmark errors in pixels and in parts of the distance of the eyes, for photos with a face found;
    how many photos there are; and seconds per photo spent in the detector, on one core."""
    given, images = read_landmarks(landmarks), sources.list_images(source)[0]
    pixels, parts, seconds = [], [], 0.0
    for image in images:
        photo = photos.decode_photo(sources.read_image(image))
        start = time.perf_counter()
        found = detect(photo)
        seconds += time.perf_counter() - start
        if not found:
            continue
        points = given[image.name][0].landmarks
        chosen = choose_face(found, choice=faces, height=photo.shape[0], width=photo.shape[1])
        pixels.append(np.linalg.norm(chosen.landmarks - points, axis=1).mean())
        parts.append(pixels[-1] / np.linalg.norm(points[1] - points[0]))
    return np.array(pixels), np.array(parts), len(images), seconds / len(images)


def warp_differences(source, landmarks, aligned, *, quality):
    """Returns the mean absolute difference in gray levels of each warped photo, encoded at `quality`, from the face of
    its name in `aligned`."""
    given = read_landmarks(landmarks)
    by_name = {image.name: image for image in sources.list_images(aligned)[0]}
    differences = []
    for image in sources.list_images(source)[0]:
        face, _ = warp.warp_face(photos.decode_photo(sources.read_image(image)), given[image.name][0].landmarks)
        ours = records.decode_image(records.encode_image(face, quality=quality))
        theirs = records.decode_image(sources.read_image(by_name[image.name]))
        differences.append(np.abs(ours.astype(int) - theirs).mean())
    return np.array(differences)


def main():
    from lrfr_jax.pictures.face_detector import Mtcnn

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for flag in ("--photos", "--landmarks", "--aligned"):
        parser.add_argument(flag, required=True)
    parser.add_argument("--faces", choices=tuple(CHOICES), default="centre")
    arguments = parser.parse_args()
    pixels, parts, number, seconds = detector_errors(
        arguments.photos, arguments.landmarks, Mtcnn(), faces=arguments.faces
    )
    print(
        f"detector: a face in {len(pixels)} of {number} photos; landmark error mean {pixels.mean():.2f} px, median "
        f"{np.median(pixels):.2f}, 95 % {np.percentile(pixels, 95):.2f}, largest {pixels.max():.2f}, "
        f"{parts.mean():.2%} of the distance of the eyes; {seconds:.3f} s per photo on one core"
    )
    differences = warp_differences(arguments.photos, arguments.landmarks, arguments.aligned, quality=90)
    print(
        f"warp: {differences.mean():.3f} gray levels from the given faces on average, {differences.max():.3f} at most"
    )


if __name__ == "__main__":
    main()
