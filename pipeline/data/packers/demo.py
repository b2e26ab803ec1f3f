"""Eight photographs that ship inside scikit-image and scikit-learn, with their ImageNet classes."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from pipeline import UsageError
from pipeline.data.packers import Entry

# (package, file below it, ImageNet class of what the photograph shows)
PHOTOGRAPHS = (
    ("skimage", "data/chelsea.png", 282),  # tiger cat
    ("skimage", "data/coffee.png", 967),  # espresso
    ("skimage", "data/camera.png", 872),  # tripod; greyscale
    ("skimage", "data/rocket.jpg", 657),  # missile
    ("skimage", "data/motorcycle_left.png", 665),  # moped
    ("sklearn", "datasets/images/china.jpg", 698),  # palace
    ("sklearn", "datasets/images/flower.jpg", 985),  # daisy
    ("skimage", "data/clock_motion.png", 892),  # wall clock, blurred by motion
)


@dataclass(frozen=True, kw_only=True)
class Demo:
    """The photographs where their packages are installed."""

    def entries(self) -> Iterator[Entry]:
        """Raises UsageError when a package that holds them is missing."""
        for package, file, label in PHOTOGRAPHS:
            spec = find_spec(package)
            if spec is None or spec.origin is None:
                raise UsageError(f"the demo needs {package!r}: pip install 'pixel-quorum[demo]'")
            path = Path(spec.origin).parent / file
            details = {"source": f"{package}/{file}"}
            yield Entry.of_file(path, path.stem, label=label, details=details)

    def class_names(self) -> list[str]:
        """None of their own: dataset.class_names=imagenet knows them."""
        return []
