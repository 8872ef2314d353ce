"""The command line: `main` dispatches, and each command is one short file."""
