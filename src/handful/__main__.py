"""`python -m handful`: the same as the `handful` command."""

from handful.cli import main

if __name__ == "__main__":
    main()
