"""Protocols: what a test set asks to compare, as plain arrays that index into its records; one class for each kind."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

DISTRACTOR = -1  # label of gallery images and of probes whose identity nobody knows: they have no mate


@dataclasses.dataclass(frozen=True, eq=False)
class VerificationProtocol:
    """Pairs to compare: `pairs` indexes into the records, `fold` holds the fold numbers of the protocol's file.

    `sizes` holds lists by name that give both images of each pair a side length in pixels (Knoche et al. 2021).
    """

    pairs: Int[np.ndarray, "pairs 2"]
    is_same: Bool[np.ndarray, " pairs"]
    fold: Int[np.ndarray, " pairs"]
    sizes: Mapping[str, Int[np.ndarray, "pairs 2"]] = dataclasses.field(default_factory=dict)

    @property
    def used_records(self) -> Int[np.ndarray, "..."]:
        return self.pairs.ravel()


@dataclasses.dataclass(frozen=True, eq=False)
class IdentificationProtocol:
    """A search of each probe in a gallery; a gallery image with the probe's label is its mate.

    Attributes:
      gallery, probes: record numbers.
      gallery_labels, probe_labels: identities, `DISTRACTOR` for a nameless one; a probe without a mate is unmated.
      probe_groups: index into `groups` (such as the distance of a camera) of each probe.
      groups: names of the groups; one empty name if there is but one.
      splits: lists by name of equally many test identities, one row for each repetition; a search within a row leaves
        out the gallery images and probes of other identities, and keeps the distractors.
    """

    gallery: Int[np.ndarray, " gallery"]
    gallery_labels: Int[np.ndarray, " gallery"]
    probes: Int[np.ndarray, " probes"]
    probe_labels: Int[np.ndarray, " probes"]
    probe_groups: Int[np.ndarray, " probes"]
    groups: tuple[str, ...]
    splits: Mapping[str, Int[np.ndarray, "repetitions identities"]] = dataclasses.field(default_factory=dict)

    @property
    def used_records(self) -> Int[np.ndarray, "..."]:
        return np.concatenate([self.gallery, self.probes])


@dataclasses.dataclass(frozen=True, eq=False)
class TemplateProtocol:
    """Templates (sets of images of one subject) that are compared in pairs, and searched in galleries.

    Attributes:
      templates, media: template and video (or photo) of every record, template numbers from 0.
      faceness: detector score of every record, in [0, 1].
      pairs, is_same: templates to compare, and whether they show one subject.
      galleries: {name: (templates, subjects)}.
      probe_templates, probe_subjects: templates to search in the galleries.
    """

    templates: Int[np.ndarray, " images"]
    media: Int[np.ndarray, " images"]
    faceness: Float[np.ndarray, " images"]
    pairs: Int[np.ndarray, "pairs 2"]
    is_same: Bool[np.ndarray, " pairs"]
    galleries: Mapping[str, tuple[Int[np.ndarray, " _"], Int[np.ndarray, " _"]]]  # each of its own length
    probe_templates: Int[np.ndarray, " probes"]
    probe_subjects: Int[np.ndarray, " probes"]

    @property
    def used_records(self) -> Int[np.ndarray, "..."]:
        return np.arange(len(self.templates))


Protocol = VerificationProtocol | IdentificationProtocol | TemplateProtocol
KINDS = {
    "verification": VerificationProtocol,
    "identification": IdentificationProtocol,
    "templates": TemplateProtocol,
}


def to_arrays(protocol: Protocol) -> dict[str, np.ndarray]:
    """Lays a protocol out as plain arrays; an entry of a mapping is named `field/key`, part 0 of it `field/key/0`."""
    arrays = {}
    for field in dataclasses.fields(protocol):
        value = getattr(protocol, field.name)
        if isinstance(value, Mapping):
            for key, entry in value.items():
                parts = {f"/{i}": part for i, part in enumerate(entry)} if isinstance(entry, tuple) else {"": entry}
                arrays |= {f"{field.name}/{key}{end}": np.asarray(part) for end, part in parts.items()}
        else:
            arrays[field.name] = np.asarray(value)
    return arrays


def from_arrays(kind: str, arrays: Mapping[str, np.ndarray]) -> Protocol:
    """Reads back what `to_arrays` made.

    Raises:
      KeyError: a field is missing.
    """
    values: dict[str, Any] = {}
    for field in dataclasses.fields(KINDS[kind]):
        prefix = f"{field.name}/"
        entries = {key.removeprefix(prefix): array for key, array in arrays.items() if key.startswith(prefix)}
        if field.name == "galleries":
            names = dict.fromkeys(key.rpartition("/")[0] for key in entries)
            values[field.name] = {name: (entries[f"{name}/0"], entries[f"{name}/1"]) for name in names}
        elif field.name in ("sizes", "splits"):
            values[field.name] = entries
        elif field.name == "groups":
            values[field.name] = tuple(map(str, arrays[field.name]))
        else:
            values[field.name] = arrays[field.name]
    return KINDS[kind](**values)
