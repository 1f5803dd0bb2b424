"""``python -m cli`` is ``router``."""

from cli.app import main

if __name__ == "__main__":
    main()
