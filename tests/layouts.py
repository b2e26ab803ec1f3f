"""Small trees in the layouts of published data sets, file by file as they are distributed."""

from pathlib import Path

import numpy as np
from conftest import encode
from PIL import Image

BIRDS = ("001.Black_footed_Albatross", "002.Laysan_Albatross", "003.Sooty_Albatross")
WNIDS = ("n01440764", "n01443537", "n01484850")
"""The first three of ImageNet's classes."""


def photograph(number: int, size: tuple[int, int] = (48, 40)) -> bytes:
    """A JPEG of its own."""
    pixels = np.random.default_rng(number).integers(0, 256, (size[1] // 8, size[0] // 8, 3))
    return encode(Image.fromarray(pixels.astype(np.uint8).repeat(8, 0).repeat(8, 1)))


def written(root: Path, files: dict[str, str | bytes]) -> Path:
    """Files below a folder."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def cub(root: Path, each: int = 2) -> Path:
    """`each` birds of three species; the first of each is for training."""
    names = [f"{b}/{b[4:]}_{i:04}_{i}.jpg" for b in BIRDS for i in range(each)]
    ids = list(enumerate(names, 1))
    return written(
        root,
        {
            "README": "",
            "classes.txt": "".join(f"{i} {b}\n" for i, b in enumerate(BIRDS, 1)),
            "images.txt": "".join(f"{i} {name}\n" for i, name in ids),
            "image_class_labels.txt": "".join(f"{i} {int(name[:3])}\n" for i, name in ids),
            "train_test_split.txt": "".join(f"{i} {int(i % each == 1)}\n" for i, _ in ids),
            "bounding_boxes.txt": "".join(f"{i} {i}.0 2.0 20.5 10.0\n" for i, _ in ids),
        }
        | {f"images/{name}": photograph(i) for i, name in ids},
    )


FACES = {"000001.jpg": (2880, "1 -1"), "000002.jpg": (2937, "-1 -1"), "000003.jpg": (2880, "-1  1")}


def celeba(root: Path) -> Path:
    """Three faces of two people, in the folders of the distribution."""
    header = "3\nSmiling Young \n"
    return written(
        root,
        {
            "Anno/identity_CelebA.txt": "".join(f"{n} {p}\n" for n, (p, _) in FACES.items()),
            "Anno/list_attr_celeba.txt": header
            + "".join(f"{name}  {signs}\n" for name, (_, signs) in FACES.items()),
            "Anno/list_bbox_celeba.txt": "3\nimage_id x_1 y_1 width height\n"
            + "".join(f"{name}    9   7  20  30\n" for name in FACES),
            "Eval/list_eval_partition.txt": "".join(f"{n} {i}\n" for i, n in enumerate(FACES)),
        }
        | {
            f"Img/{folder}/{name}": photograph(i)
            for i, name in enumerate(FACES)
            for folder in ("img_align_celeba", "img_celeba")
        },
    )


def vggface2(root: Path) -> Path:
    """Two people for training, one, of the smallest id, for testing."""
    images = ["train/n000002/0001_01", "train/n000002/0002_01", "train/n000003/0001_02"]
    images += ["test/n000001/0001_01"]
    return written(
        root,
        {
            "identity_meta.csv": "Class_ID, Name, Sample_Num, Flag, Gender\n"
            'n000001, "14th_Dalai_Lama", 424, 0, m\n'
            'n000002, "A_Fine_Frenzy", 315, 1, f\n'
            'n000003, "A._A._Gill", 205, 1, m\n',
            "bb_landmark/loose_bb_test.csv": 'NAME_ID,X,Y,W,H\n"n000001/0001_01",5,6,20,21\n',
        }
        | {f"{name}.jpg": photograph(i) for i, name in enumerate(images)},
    )


def imagenet(root: Path) -> Path:
    """Two training images a class; four for validation, flat, with every file of their classes.

    ILSVRC's ids are in reverse order of the class indices, so that no mistake goes unseen.
    """
    from scipy.io import savemat

    truth = [3, 1, 2, 3]  # ids; id 3 is WNIDS[0]
    rows = [(i, wnid, "", 0) for i, wnid in enumerate(WNIDS[::-1], 1)]
    rows.append((1001, "n00001740", "entity", 3))  # of the hierarchy, no class
    kinds = [(n, "O") for n in ("ILSVRC2012_ID", "WNID", "words", "num_children")]
    validation = [f"ILSVRC2012_val_{i:08}" for i in range(1, 5)]
    found = [WNIDS[3 - i] for i in truth]
    written(
        root,
        {
            "ILSVRC2012_validation_ground_truth.txt": "".join(f"{i}\n" for i in truth),
            "ids.txt": "".join(f"{w} a name\n" for w in WNIDS[::-1]),
            "wnids.txt": "".join(f"{w}\n" for w in found),
            "LOC_val_solution.csv": "ImageId,PredictionString\n"
            + "".join(
                f"{v},{w} 1 2 30 20 {w} 3 4 9 9 \n"
                for v, w in list(zip(validation, found, strict=True))[::-1]
            ),
        }
        | {f"val/{v}.JPEG": photograph(i) for i, v in enumerate(validation)}
        | {
            f"train/{w}/{w}_{i}.JPEG": photograph(10 * j + i)
            for j, w in enumerate(WNIDS)
            for i in (7, 18)
        },
    )
    savemat(root / "meta.mat", {"synsets": np.array(rows, dtype=kinds)})
    return root


def pets(root: Path, splits: tuple[str, ...] = ("",)) -> Path:
    """Two cats and a dog in folders of their names, in each split."""
    names = ("cat/1.jpg", "cat/more/2.PNG", "dog/1.jpeg")
    files = {f"{s}/{n}".lstrip("/"): photograph(i) for s in splits for i, n in enumerate(names)}
    return written(root, files | {"cat/._1.jpg": b"of a Mac"} if splits == ("",) else files)
