from lrfr_jax.data import face_sets
from tests import three_doors
from tests.evals.made_up_sets import TinyBackbone, variables
from tests.prepare import layouts


def test_one_model_has_the_same_fold_accuracies_through_every_door(tmp_path):
    persons, folds = 20, 10
    faces = {f"p{k:02}/p{k:02}_{i:04}.jpg": layouts.face(k, i) for k in range(persons) for i in (1, 2, 3)}
    source = layouts.write(tmp_path / "faces", faces)
    lines = [f"{folds}\t2"]
    for fold in range(folds):
        a, b = f"p{2 * fold:02}", f"p{2 * fold + 1:02}"
        lines += [f"{a}\t1\t2", f"{b}\t2\t3", f"{a}\t1\t{b}\t3", f"{a}\t3\t{b}\t1"]
    (tmp_path / "pairs.txt").write_text("\n".join(lines))
    data_dir = three_doors.prepare_all(source, str(tmp_path / "pairs.txt"), tmp_path)
    assert len(face_sets.open_training_set(data_dir, "packed").source) == 60
    found = three_doors.fold_accuracies(data_dir, TinyBackbone(), variables(), resolutions=(7,))
    assert found["folder"] == found["bin"] == found["recordio"]
    assert len(found["folder"]) == 3
    assert {len(accuracies) for accuracies in found["folder"]} == {folds}
    assert len({accuracy for accuracies in found["folder"] for accuracy in accuracies}) > 2  # they say something
