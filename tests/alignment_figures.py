"""Measures `prepare align`: the detector against given landmarks, the warp against given aligned faces, fewer points.

python tests/alignment_figures.py --photos lfw_raw.tar --landmarks landmarks.csv.gz --aligned lfw112.tar --faces centre
with --checkpoint DIR also what faces that are aligned by fewer points are to a network
"""

import argparse
import time

import cv2
import numpy as np

from lrfr_jax.data import records
from lrfr_jax.pictures import photos, sources, warp
from lrfr_jax.pictures.landmarks import CHOICES, choose_face, read_landmarks

# What others give of five points.
FEWER = {
    "eyes": lambda points: points[:2],
    "eyes, nose, middle of the mouth": lambda points: np.stack([*points[:3], points[3:].mean(axis=0)]),
}


def reduced(photo, points, *, face):
    """Shrinks a photo until the aligned face's square takes `face` pixels of it; None leaves it as it is."""
    if face is None:
        return photo, points
    factor = face * np.sqrt(np.linalg.det(warp.fit_face(points)[0][:, :2])) / records.IMAGE_SIZE
    size = [round(side * factor) for side in photo.shape[1::-1]]
    moved = (points + 0.5) * np.array(size) / photo.shape[1::-1] - 0.5
    return cv2.resize(photo, size, interpolation=cv2.INTER_AREA), moved


def detector_errors(source, landmarks, detect, *, faces, face=None):
    """Returns mean landmark errors in pixels and in parts of the distance of the eyes, for photos with a face found;
    how many photos there are; and seconds per photo spent in the detector, on one core. Photos are `reduced` first."""
    given, images = read_landmarks(landmarks), sources.list_images(source)[0]
    pixels, parts, seconds = [], [], 0.0
    for image in images:
        photo = photos.decode_photo(sources.read_image(image))
        photo, points = reduced(photo, given[image.name][0].landmarks, face=face)
        start = time.perf_counter()
        found = detect(photo)
        seconds += time.perf_counter() - start
        if not found:
            continue
        chosen = choose_face(found, choice=faces, height=photo.shape[0], width=photo.shape[1])
        pixels.append(np.linalg.norm(chosen.landmarks - points, axis=1).mean())
        parts.append(pixels[-1] / np.linalg.norm(points[1] - points[0]))
    return np.array(pixels), np.array(parts), len(images), seconds / len(images)


def shift(points, fewer):
    """How far the template's five points lie, on average, where fewer landmarks bring them, in pixels of 112."""
    by_five, _ = warp.fit_face(points)
    by_fewer, _ = warp.fit_face(fewer)
    places = cv2.transform(warp.TEMPLATE[None], cv2.invertAffineTransform(by_five))
    return np.linalg.norm(cv2.transform(places, by_fewer)[0] - warp.TEMPLATE, axis=1).mean()


def fewer_points(source, landmarks, take, embedder=None):
    """Returns for each photo the `shift` and the cosine similarity of its face to the one aligned by five points."""
    given, shifts, crops = read_landmarks(landmarks), [], []
    for image in sources.list_images(source)[0]:
        photo, points = photos.decode_photo(sources.read_image(image)), given[image.name][0].landmarks
        shifts.append(shift(points, take(points)))
        crops.append([warp.warp_face(photo, some)[0] for some in (points, take(points))])
    if embedder is None:
        return np.array(shifts), None
    five, fewer = (embedder.embed(np.stack(faces)).vectors for faces in zip(*crops, strict=True))
    return np.array(shifts), np.sum(five * fewer, axis=1)


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


def print_detector(arguments, face):
    from lrfr_jax.pictures.face_detector import Mtcnn

    pixels, parts, number, seconds = detector_errors(
        arguments.photos, arguments.landmarks, Mtcnn(), faces=arguments.faces, face=face
    )
    print(
        f"detector, faces of {face or 'their own'} px: found in {len(pixels)} of {number} photos; landmark error mean "
        f"{pixels.mean():.2f} px, median {np.median(pixels):.2f}, 95 % {np.percentile(pixels, 95):.2f}, largest "
        f"{pixels.max():.2f}, {parts.mean():.2%} of the distance of the eyes; {1 / seconds:.0f} photos/s on one core"
    )


def print_fewer_points(arguments):
    from lrfr_jax import Embedder

    embedder = Embedder.load(arguments.checkpoint) if arguments.checkpoint else None
    for name, take in FEWER.items():
        shifts, similarities = fewer_points(arguments.photos, arguments.landmarks, take, embedder)
        print(f"{name}: points shifted by {shifts.mean():.2f} px of 112, 95 % within {np.percentile(shifts, 95):.2f}")
        if similarities is not None:
            print(f"  cosine similarity mean {similarities.mean():.3f}, 5 % below {np.percentile(similarities, 5):.3f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for flag in ("--photos", "--landmarks", "--aligned"):
        parser.add_argument(flag, required=True)
    parser.add_argument("--faces", choices=tuple(CHOICES), default="centre")
    parser.add_argument("--checkpoint", help="a model, as of lrfr_jax.pretrained")
    arguments = parser.parse_args()
    for face in (None, 64, 32, 20):
        print_detector(arguments, face)
    print_fewer_points(arguments)
    differences = warp_differences(arguments.photos, arguments.landmarks, arguments.aligned, quality=90)
    print(
        f"warp: {differences.mean():.3f} gray levels from the given faces on average, {differences.max():.3f} at most"
    )


if __name__ == "__main__":
    main()
