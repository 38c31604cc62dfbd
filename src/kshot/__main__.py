"""``python -m kshot`` is the command line."""

from kshot.clients.cli.main import run

if __name__ == "__main__":
    run()
