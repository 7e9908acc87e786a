"""Waking up on time under gevent: its own timers are good to a millisecond, and a hit takes half of one.

A timer of Linux's kernel (timerfd_create(2)) is good to microseconds, and a file that gevent's loop can wait for. Where
there is none, gevent's own sleep has to do; the lateness is measured either way.
"""

from __future__ import annotations

import ctypes
import os
import time

import gevent  # type: ignore[import-untyped]

_TFD_NONBLOCK = os.O_NONBLOCK
_TFD_CLOEXEC = os.O_CLOEXEC
_TFD_TIMER_ABSTIME = 1


class _Timespec(ctypes.Structure):
    _fields_ = (("tv_sec", ctypes.c_long), ("tv_nsec", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("it_interval", _Timespec), ("it_value", _Timespec))


_LIBC = ctypes.CDLL(None, use_errno=True)


class Alarm:
    """Wakes one greenlet after the other; each greenlet has its own."""

    def __init__(self) -> None:
        self._descriptor: int = -1
        if hasattr(_LIBC, "timerfd_create"):
            self._descriptor = _LIBC.timerfd_create(time.CLOCK_MONOTONIC, _TFD_NONBLOCK | _TFD_CLOEXEC)
        if self._descriptor >= 0:
            self._hub = gevent.get_hub()
            self._ring = self._hub.loop.io(self._descriptor, 1)

    def sleep_until(self, at: float) -> None:
        """Let others run until `time.monotonic()` is `at`; return at once when it is later than that already."""
        left_s = at - time.monotonic()
        if left_s <= 0:
            return
        if self._descriptor < 0:
            gevent.sleep(left_s)
            return
        whole_s = int(at)
        # A time of zero would disarm the timer.
        wanted = _Itimerspec(_Timespec(0, 0), _Timespec(whole_s, max(1, int((at - whole_s) * 1e9))))
        if _LIBC.timerfd_settime(self._descriptor, _TFD_TIMER_ABSTIME, ctypes.byref(wanted), None) != 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")
        self._hub.wait(self._ring)
        os.read(self._descriptor, 8)

    def close(self) -> None:
        """Nobody may be asleep."""
        if self._descriptor >= 0:
            self._ring.close()
            os.close(self._descriptor)
            self._descriptor = -1
