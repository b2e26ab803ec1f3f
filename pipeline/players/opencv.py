"""OpenCV with its extra modules, or a word on how to get them."""

from typing import Any

from pipeline import UsageError


def opencv() -> Any:
    """The module cv2. Raises UsageError where it lacks `ximgproc`: packages of OpenCV share one
    folder, so that a plain opencv-python that is installed later takes it away."""
    try:
        import cv2

        if not hasattr(cv2, "ximgproc"):
            raise ImportError("the cv2 that is installed has no ximgproc")
    except ImportError as error:
        raise UsageError(
            f"players: superpixels need OpenCV's extra modules ({error}): pip install "
            "--force-reinstall --no-deps opencv-contrib-python-headless"
        ) from None
    return cv2
