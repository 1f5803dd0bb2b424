"""The terminal of the live view when its process is stopped and goes on: Ctrl-Z and ``fg``, SIGSTOP and SIGCONT."""

from __future__ import annotations

from typing import Any

from textual.drivers.linux_driver import LinuxDriver


class Driver(LinuxDriver):
    """Textual's own, but for two things.

    Before Ctrl-Z stops the process the terminal gets its modes and its screen back. SIGSTOP leaves no time for that;
    afterwards Textual would take over the terminal as it finds it, which is raw, and at the end leave it so.

    A signal may come while a lock is held that giving back the terminal needs: the loop does it, not the handler.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        self._went_on = False  # the signal that is about to be dealt with was: it ended our own stop
        super().__init__(*args, **options)

    def _sigtstp_application(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop)

    def _sigcont_application(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._go_on)

    def _stop(self) -> None:
        super()._sigtstp_application()  # there it stands until it goes on
        super()._sigcont_application()
        self._went_on = True

    def _go_on(self) -> None:
        if self._went_on:
            self._went_on = False
            return
        if not self._must_signal_resume:
            self.suspend_application_mode()
            self._must_signal_resume = True  # so that everything is drawn again
        super()._sigcont_application()
