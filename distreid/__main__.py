"""``python -m distreid`` is the same as ``distreid``."""

from distreid.cli import main

if __name__ == "__main__":
    main()
