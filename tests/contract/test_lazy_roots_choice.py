"""Which way images become roots: as asked, or as this machine can, and then it is said."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from lazy_samples import file, image_of

from lading.errors import UsageError
from lading.sandbox.spec import Isolation
from lading.service.pool.image_function import OwnedImage, Roots
from lading.service.roots import ImageWay, choose_roots


def choose(folder: Path, wanted: ImageWay | None) -> Roots:
    """In an isolation that can't be given mounts."""
    seen: list[object] = []
    return choose_roots(folder, wanted, Isolation.USER, seen.append, seen.append)


def test_lazy_images_that_can_t_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="can't start lazily: isolation user can't be given mounts") as caught:
        choose(tmp_path, ImageWay.LAZY)
    assert caught.value.hint == "unpack them: --images unpack"


@pytest.mark.parametrize("wanted", [None, ImageWay.UNPACK])
def test_what_is_unpacked_for_want_of_better_is_said_once(
    caplog: pytest.LogCaptureFixture, tmp_path: Path, wanted: ImageWay | None
) -> None:
    images = [OwnedImage(image_of((file(name, name),)), "000000000000") for name in ("one", "two")]
    with caplog.at_level(logging.WARNING):
        roots = choose(tmp_path, wanted)
        assert not caplog.messages, "a service without image functions has nothing to say"
        for owned in images:
            roots.prepare(owned)
            lease = roots.open(owned)
            assert all(folder.is_dir() for folder in lease.folders)
            lease.release()
    said = ["images are unpacked, they can't start lazily here: isolation user can't be given mounts"]
    assert caplog.messages == ([] if wanted else said)
    assert roots.metrics() == ""
    roots.close()
