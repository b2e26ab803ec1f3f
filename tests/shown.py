"""What a report's page holds, read as its script does."""

import base64
import json
import re
from typing import Any

import numpy as np

from pipeline.report import Section


def held(html: str, name: str) -> Any:
    """One of the page's JSON elements."""
    pattern = rf'<script type="application/json" id="{name}">(.*?)</script>'
    (found,) = re.findall(pattern, html, re.DOTALL)
    return json.loads(found)


def index(html: str) -> list[dict]:
    """What the page lists of its images."""
    return held(html, "data")["index"]


def images(html: str) -> list[dict]:
    """Photographs and items of the images that lie in the page."""
    return [held(html, f"image-{entry['place']}") for entry in index(html) if not entry["chunk"]]


def views(section: Section) -> list[dict]:
    """Photographs of a section with their items."""
    return [vars(view) for exhibit in section.exhibits for view in exhibit.views]


def items(section: Section) -> list[dict]:
    """What is drawn over the photographs of a section."""
    return [item for view in views(section) for item in view["items"]]


def numbers(text: str, kind: str = "<u2") -> np.ndarray:
    """Coded numbers as they are stored."""
    return np.frombuffer(base64.b64decode(text), kind)
