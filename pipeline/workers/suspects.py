"""Which image kills its workers: the policy, without Ray.

A dead actor leaves suspects, the images that it had in flight, of which perhaps one is poison.
They go back together to one idle actor. If that one dies too they are halved, until the poison is
alone; alone it is given up after `tries` deaths. One poison among n costs at most
2 + log2(n) + tries deaths, and no other image is lost.
"""

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

Image = TypeVar("Image")


class Suspects(Generic[Image]):
    """Groups of images that wait, each for an idle actor of its own."""

    def __init__(self, tries: int):
        self.tries = tries
        self.deaths: Counter[Image] = Counter()
        """Of each image, while it was alone in flight."""
        self._groups: deque[Sequence[Image]] = deque()

    def __len__(self) -> int:
        return len(self._groups)

    def __iter__(self) -> Iterator[Sequence[Image]]:
        """Groups that wait."""
        return iter(self._groups)

    def add(self, images: Sequence[Image], deaths: int = 0) -> None:
        """A group that waits; `deaths`: of a single image so far."""
        if not images:
            return
        self._groups.append(images)
        if deaths:
            self.deaths[images[0]] = deaths

    def next(self) -> Sequence[Image]:
        """The group to give to an idle actor."""
        return self._groups.popleft()

    def died(self, images: Sequence[Image], *, suspect: bool) -> Image | None:
        """Take back what a dead actor had in flight; `suspect` if it was given as a group.

        Returns the image to give up, if there is one.
        """
        if len(images) == 1:
            (image,) = images
            self.deaths[image] += 1
            if self.deaths[image] >= self.tries:
                return image
            self._groups.append(images)
        elif suspect:
            half = len(images) // 2
            self._groups += images[:half], images[half:]
        elif images:
            self._groups.append(images)
        return None
