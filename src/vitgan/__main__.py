"""`python -m vitgan` is the command line, also under torchrun."""

from vitgan.cli.main import main

if __name__ == "__main__":
    main()
