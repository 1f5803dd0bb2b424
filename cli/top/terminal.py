"""The terminal of the live view when its process is stopped and goes on: Ctrl-Z and ``fg``, SIGSTOP and SIGCONT."""

from __future__ import annotations

from typing import Any

from textual.drivers.linux_driver import LinuxDriver


class Driver(LinuxDriver):
    """Textual's driver, which also bears being stopped and continued.

    Ctrl-Z: the terminal gets its modes and its screen back before the process stops. SIGSTOP leaves no time for that.
    After it, Textual would take the raw modes that it finds for the usual ones, and leave those at its end; so the
    usual ones are given back before Textual takes over the terminal again.

    The loop gives the terminal back, not the handler of the signal: a lock that this needs may be held just then.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        self._went_on = False  # by the SIGCONT that ended our own stop, which still has to be handled
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
