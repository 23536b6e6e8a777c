"""Lets `python -m streamtrain` be the command."""

from streamtrain.cli import main

if __name__ == "__main__":
    main()
