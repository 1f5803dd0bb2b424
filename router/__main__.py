"""``python -m router regions.toml``: the server without the command line's comforts."""

from __future__ import annotations

import sys

from router import stdio
from router.config import load
from router.errors import ConfigError
from router.workers.run import run

if __name__ == "__main__":
    stdio.keep_open()
    try:
        configuration = load(sys.argv[1] if len(sys.argv) > 1 else "regions.toml", start=True)
    except ConfigError as error:
        sys.exit(str(error))
    sys.exit(run(configuration))
