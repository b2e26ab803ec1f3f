"""OpenCV with its extra modules, or a word on how to get them."""

from typing import Any

from pipeline import UsageError


def opencv() -> Any:
    """The module cv2. Raises UsageError where it lacks superpixels: packages of OpenCV share one
    folder, and of a plain opencv-python installed last there is but an empty `ximgproc`."""
    try:
        import cv2

        if not hasattr(getattr(cv2, "ximgproc", None), "createSuperpixelSLIC"):
            raise ImportError("the cv2 that is installed has no superpixels")
    except ImportError as error:
        raise UsageError(
            f"players: superpixels need OpenCV's extra modules ({error}): pip install "
            "--force-reinstall --no-deps opencv-contrib-python-headless"
        ) from None
    return cv2
