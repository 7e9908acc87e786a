"""What `nearshelf up` says, where nobody can hear it: it goes on, because a lease is renewed by whoever speaks."""

from __future__ import annotations

import errno
import io
import sys

import pytest

from infra.local.voice import Voice


class Deaf(io.StringIO):
    """Takes nothing."""

    def __init__(self, error: int) -> None:
        super().__init__()
        self._error = error

    def write(self, _: str) -> int:
        raise OSError(self._error, "it cannot be written")


@pytest.mark.parametrize("error", [errno.EPIPE, errno.ENOSPC, errno.EIO])
def test_who_cannot_be_heard_goes_on(monkeypatch, error):
    voice = Voice(quiet=False)
    monkeypatch.setattr(sys, "stdout", Deaf(error))
    monkeypatch.setattr(sys, "stderr", Deaf(error))
    voice.line("ready")
    voice.step("the origin answers")
    voice.alarm("no standby", ["start it"])
    voice.warn("eu-1 has ended")
