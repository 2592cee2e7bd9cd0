"""``python -m recdistill``: the same as the ``recdistill`` command."""

from recdistill.cli import main

if __name__ == "__main__":
    main()
